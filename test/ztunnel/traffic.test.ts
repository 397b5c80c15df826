/** Traffic through an unmodified ztunnel: what the demo proves with the built-in tunnel, both ways, policy, and names. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { echoPorts } from '../../src/lab/echo.ts';
import { Client } from '../../src/lab/demo/client.ts';
import type { Scene } from '../../src/lab/demo/scene.ts';
import { buildWorld, type World } from './world.ts';

/** ztunnel takes policies from a file beside xDS; the mesh file of a lab has none, as the built-in tunnel does not enforce them yet. */
const POLICY = `workloads: []
services: []
policies:
- name: not-the-banned
  namespace: shop
  scope: Namespace
  action: Deny
  dryRun: false
  rules:
  - - - principals: [!Exact cluster.local/ns/shop/sa/banned]
`;

let world: World;
let scene: Scene;
let other: Client;
let banned: Client;

beforeAll(async () => {
  world = await buildWorld('traffic', { LOCAL_XDS: POLICY });
  scene = world.scene;
  [other, banned] = await Promise.all([Client.start(world.lab, 'shop/other'), Client.start(world.lab, 'shop/banned')]);
});

afterAll(async () => {
  other.close();
  banned.close();
  await world.close();
});

const families = [4, 6] as const;
const spiffe = (account: string): string => `spiffe://cluster.local/ns/shop/sa/${account}`;

describe.each(families)('IPv%i', (family) => {
  test.each([
    ['node1 to node2', () => scene.client, 'client', 'node1', 'web-2', 'node2'],
    ['node2 to node1', () => other, 'other', 'node2', 'web-1', 'node1'],
    ['on node1', () => scene.client, 'client', 'node1', 'web-1', 'node1'],
    ['on node2', () => other, 'other', 'node2', 'web-2', 'node2'],
  ] as const)('%s: HBONE, both logs name both identities, the server sees its client', async (_, from, account, source, pod, target) => {
    scene.markLogs();
    const address = scene.ip(`shop/${pod}`, family);
    const { seen, local } = await scene.http(from(), address);
    expect(seen).toMatchObject({ hostname: pod, peer: scene.ip(`shop/${account}`, family), local: address });
    const identities = { 'src.identity': spiffe(account), 'dst.identity': spiffe('web') };
    const sent = await scene.accessLine(source, 'outbound', (line) => line['direction'] === 'outbound' && line['src.addr'] === local);
    expect(sent).toMatchObject({ ...identities, 'dst.hbone_addr': url(address, echoPorts.http), 'dst.addr': url(address, 15008) });
    const taken = await scene.accessLine(target, 'inbound', (line) => line['direction'] === 'inbound' && line['src.workload'] === account);
    expect(taken).toMatchObject({ ...identities, 'dst.workload': pod });
  });

  test('by service, from both nodes: every endpoint has its turn', async () => {
    for (const [from, account] of [
      [scene.client, 'client'],
      [other, 'other'],
    ] as const) {
      const servers = new Set<string>();
      for (let i = 0; i < 40 && servers.size < 2; i += 1) {
        const { seen } = await scene.http(from, scene.vip('shop/web', family), 80);
        expect(seen.peer).toBe(scene.ip(`shop/${account}`, family));
        servers.add(seen.hostname);
      }
      expect([...servers].sort()).toEqual(['web-1', 'web-2']);
    }
  });

  test('out of the mesh in plaintext, by address and by service: the server sees the client', async () => {
    for (const [host, port] of [
      [scene.ip('legacy/old', family), echoPorts.http],
      [scene.vip('legacy/old', family), 80],
    ] as const) {
      scene.markLogs();
      const { seen, local } = await scene.http(scene.client, host, port);
      expect(seen).toMatchObject({ hostname: 'old', peer: scene.ip('shop/client', family) });
      const line = await scene.accessLine('node1', 'plaintext out', (found) => found['src.addr'] === local);
      expect(line['dst.identity']).toBeUndefined();
    }
  });

  test('into the mesh in plaintext: through ztunnel, without an identity, and the server sees the client', async () => {
    scene.markLogs();
    const { seen } = await scene.http(scene.stranger, scene.ip('shop/web-1', family));
    expect(seen).toMatchObject({ hostname: 'web-1', peer: scene.ip('legacy/old', family) });
    const line = await scene.accessLine(
      'node1',
      'plaintext in',
      (found) => found['direction'] === 'inbound' && found['src.workload'] === 'old',
    );
    expect(line['src.identity']).toBeUndefined();
  });

  test('server-first, and bytes with half-close', async () => {
    const host = scene.ip('shop/web-2', family);
    const { text } = await scene.client.must({ op: 'server-first', host, port: echoPorts.serverFirst, say: 'hello\n' });
    expect(text).toBe('220 web-2 speaks first\r\n250 heard hello\r\n');
    await scene.client.must({ op: 'echo', host, port: echoPorts.bytes, bytes: 4 << 20 });
  });

  test('a policy denies an identity, by pod and by service, and nobody else', async () => {
    scene.markLogs();
    for (const [host, port] of [
      [scene.ip('shop/web-1', family), echoPorts.http],
      [scene.ip('shop/web-2', family), echoPorts.http],
      [scene.vip('shop/web', family), 80],
    ] as const) {
      const answer = await banned.call({ op: 'http', host, port, path: '/' });
      expect(answer).toMatchObject({ ok: false, code: 'ECONNRESET' });
      await scene.http(scene.client, host, port);
    }
    const line = await scene.accessLine(
      'node2',
      'the denial',
      (found) => found['src.workload'] === 'banned' && found['direction'] === 'inbound',
    );
    expect(line).toMatchObject({ 'src.identity': spiffe('banned'), error: expect.stringMatching(/shop\/not-the-banned/) as unknown });
  });
});

test('what ztunnel tells of itself is read: connections and certificates', async () => {
  await scene.client.must({ op: 'open', id: 'open', host: scene.ip('shop/web-2'), port: echoPorts.bytes });
  try {
    type Row = Record<string, unknown>;
    const { document: rows } = await scene.culvert<Row[]>(['connections']);
    const target = url(scene.ip('shop/web-2'), echoPorts.bytes);
    expect(rows).toContainEqual(expect.objectContaining({ node: 'node1', pod: 'shop/client', direction: 'outbound', originalDst: target }));
    const inbound = rows.find(({ node, direction, actualDst }) => node === 'node2' && direction === 'inbound' && actualDst === target);
    expect(inbound).toMatchObject({ pod: 'shop/web-2', protocol: 'HBONE', bytesIn: null, peerIdentity: null });
    const { document: certificates } = await scene.culvert<Row[]>(['certs', '--node', 'node1']);
    expect(certificates.map((row) => row['identity'])).toEqual(expect.arrayContaining([spiffe('client'), spiffe('web'), spiffe('banned')]));
    for (const row of certificates) expect(row).toMatchObject({ state: 'Available', serial: expect.stringMatching(/^\d+$/) as unknown });
  } finally {
    await scene.client.must({ op: 'close', id: 'open' });
  }
});

function url(address: string, port: number): string {
  return address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`;
}
