/** Every reading command on a lab with traffic: the JSON documents have the fields that scripts rely on. */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { Scene } from '../../../src/lab/demo/scene.ts';
import { echoPorts } from '../../../src/lab/echo.ts';
import { takeDown } from '../../../src/lab/down.ts';
import { attempt, must } from '../../../src/lab/command.ts';
import { createNetns, inNetns, removeNetns } from '../../../src/lab/network/netns.ts';
import { LabPaths } from '../../../src/lab/paths.ts';
import { selfCommand } from '../../../src/lab/self.ts';
import { defaultTopology, parseTopology } from '../../../src/lab/topology.ts';
import { bringUp } from '../../../src/lab/up.ts';

const lab = new LabPaths(`cvt-lab-commands-${String(process.pid)}`);
let scene: Scene;

beforeAll(async () => {
  await bringUp(lab, defaultTopology, parseTopology(defaultTopology, 'default topology'));
  scene = await Scene.set(lab);
  await scene.http(scene.client, scene.ip('shop/web-2'));
  await scene.client.must({ op: 'open', id: 'open', host: scene.ip('shop/web-2'), port: echoPorts.bytes });
  await scene.client.must({ op: 'send', id: 'open', text: 'hello' });
});

afterAll(async () => {
  scene.close();
  await takeDown(lab);
});

type Row = Record<string, unknown>;
const text = expect.any(String) as unknown;
const number = expect.any(Number) as unknown;
const time = expect.stringMatching(/^\d{4}-\d\d-\d\dT[\d:.]+Z$/) as unknown;
const spiffe = (account: string): string => `spiffe://cluster.local/ns/shop/sa/${account}`;

test('status', async () => {
  const { document } = await scene.culvert<Row[]>(['status']);
  expect(document.map((row) => row['node'])).toEqual(['node1', 'node2']);
  expect(document[0]).toEqual({
    node: 'node1',
    version: text,
    kernel: text,
    ready: true,
    problems: [],
    driver: { name: 'ebpf', forced: false, reasons: expect.any(Array) as unknown },
    tunnel: { kind: 'builtin', connections: [{ id: text, pid: number, since: time }] },
    pods: { enrolled: 2, pending: 0, notEnrolled: 0 },
    source: { kind: 'file', synced: true },
  });
});

test('pods, all and one', async () => {
  const { document } = await scene.culvert<Row[]>(['pods']);
  expect(document).toHaveLength(4);
  const one = await scene.culvert<Row[]>(['pods', 'shop/client']);
  expect(one.document).toEqual([
    {
      uid: text,
      namespace: 'shop',
      name: 'client',
      node: 'node1',
      ips: [scene.ip('shop/client', 4), scene.ip('shop/client', 6)],
      netnsCookie: expect.stringMatching(/^\d+$/) as unknown,
      state: 'enrolled',
      datapath: 'active',
      reason: text,
      driver: 'ebpf',
      since: time,
      counters: {
        outboundRedirected: 2,
        inboundRedirected: 0,
        outboundPassed: expect.any(Object) as unknown,
        inboundPassed: {},
        dropped: {},
      },
    },
  ]);
});

test('maps, all and one', async () => {
  const { document } = await scene.culvert<Row[]>(['maps']);
  for (const map of document)
    expect(Object.keys(map)).toEqual(expect.arrayContaining(['node', 'map', 'type', 'entries', 'maxEntries', 'rows']));
  const own = await scene.culvert<Row[]>(['maps', 'own', '--node', 'node2']);
  expect(own.document).toMatchObject([{ node: 'node2', map: 'own', type: 'hash', entries: number, maxEntries: number }]);
  expect(own.document[0]?.['rows']).toContainEqual({ cookie: text, addr: scene.ip('shop/web-2'), pod: 'shop/web-2', stale: false });
});

test('connections', async () => {
  const { document } = await scene.culvert<Row[]>(['connections']);
  const [outbound, inbound] = ['node1', 'node2'].map((node) => document.find((row) => row['node'] === node));
  const target = `${scene.ip('shop/web-2')}:${echoPorts.bytes}`;
  expect(outbound).toEqual({
    ...{ node: 'node1', pod: 'shop/client', direction: 'outbound', src: text, originalDst: target },
    ...{ actualDst: `${scene.ip('shop/web-2')}:15008`, protocol: 'HBONE', peerIdentity: spiffe('web'), bytesIn: 5, bytesOut: 5 },
  });
  expect(inbound).toMatchObject({
    node: 'node2',
    pod: 'shop/web-2',
    direction: 'inbound',
    protocol: 'HBONE',
    peerIdentity: spiffe('client'),
  });
});

test('certs', async () => {
  const { document } = await scene.culvert<Row[]>(['certs']);
  expect(document.map((row) => `${String(row['node'])} ${String(row['identity'])}`).sort()).toEqual([
    `node1 ${spiffe('client')}`,
    `node1 ${spiffe('web')}`,
    `node2 ${spiffe('web')}`,
  ]);
  expect(document[0]).toEqual({
    ...{ node: text, identity: text, notBefore: time, notAfter: time, state: 'Available', serial: text },
    ...{ error: null, errorTime: null },
  });
});

test('verify of one pod, and of one that is not enrolled', async () => {
  const good = await scene.culvert<Row[]>(['verify', 'shop/web-1']);
  expect(good.document).toEqual([
    { node: 'node1', pod: 'shop/web-1', ok: true, outbound: { ok: true, detail: text }, inbound: { ok: true, detail: text } },
  ]);
  expect(good.code).toBe(0);
  const bad = await scene.culvert<Row[]>(['verify', 'legacy/old']);
  expect(bad.document).toMatchObject([{ pod: 'legacy/old', ok: false }]);
  expect(bad.code).toBe(1);
  await expect(scene.culvert(['verify', 'shop/nobody'])).rejects.toThrow(/exit code 1.*shop\/nobody/s);
});

test('redirect on, show, off: any namespace by its path', async () => {
  const netns = lab.netns('by-hand');
  await createNetns(netns);
  try {
    const redirect = (verb: string): ReturnType<typeof scene.culvert<Row>> =>
      scene.culvert<Row>(['redirect', verb, '--netns', netns, '--node', 'node1']);
    expect((await redirect('on')).document).toMatchObject({ netnsCookie: text, datapath: 'active', listeners: [] });
    expect((await redirect('show')).document).toMatchObject({ datapath: 'active' });
    expect(await must(inNetns(netns, ['ip', 'rule', 'show']))).toMatch(/32764:.*fwmark 0x111/);
    const quiet = ['redirect', 'on', '--netns', netns, '--lab', lab.name, '--node', 'node1', '--quiet'];
    expect(await attempt([...selfCommand(), ...quiet])).toMatchObject({ code: 0, stdout: '', stderr: '' });
    expect((await redirect('off')).document).toMatchObject({ datapath: 'none' });
    expect(await must(inNetns(netns, ['ip', 'rule', 'show']))).not.toMatch(/0x111/);
  } finally {
    await removeNetns(netns);
  }
});

test('lab status and exec', async () => {
  const run = (...args: string[]): ReturnType<typeof attempt> => attempt([...selfCommand(), 'lab', ...args]);
  // a lab that somebody works with: refused, and left as it is
  expect(await run('demo', '--name', lab.name)).toMatchObject({ code: 1, stdout: expect.stringContaining('it is up already') as unknown });
  const status = await run('status', '--name', lab.name, '-o', 'json');
  expect(status.code).toBe(0);
  expect(JSON.parse(status.stdout)).toMatchObject([
    { name: lab.name, up: true, nodes: [{ node: 'node1' }, { node: 'node2' }], leftovers: [] },
  ]);
  expect(await run('exec', '--name', lab.name, 'shop/client', '--', 'sh', '-c', 'ip -br addr show eth0; exit 7')).toMatchObject({
    code: 7,
    stdout: expect.stringContaining(scene.ip('shop/client')) as unknown,
  });
  const none = await run('exec', '--name', lab.name, 'shop/nobody', '--', 'true');
  expect(none).toMatchObject({ code: 1, stderr: expect.stringMatching(/shop\/nobody.*shop\/client/) as unknown });
  expect((await run('logs', '--name', lab.name, 'ztunnel', '--node', 'node2')).stdout).toMatch(/"direction":"inbound"/);
});
