/**
 * DNS of an enrolled pod goes to ztunnel, whichever resolver the application asks, and comes back as if from that one. ztunnel answers
 * for services itself; everything else it asks the resolver of its own container, from inside the pod, and that is not captured again.
 */
import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Scene } from '../../src/lab/demo/scene.ts';
import { settle } from '../../src/lab/settled.ts';
import { outside } from './resolver.ts';
import { buildWorld, inShop, PodProgram, ready, type World } from './world.ts';

let world: World;
let scene: Scene;
let client: PodProgram;
let plain: PodProgram;

beforeAll(async () => {
  world = await buildWorld('dns');
  scene = world.scene;
  [client, plain] = await Promise.all([PodProgram.inPod(world.lab, 'shop/client'), PodProgram.inPod(world.lab, 'legacy/old')]);
  world.setResolver(scene.ip('legacy/resolver'));
  await scene.kill('node1', 'ztunnel'); // resolv.conf is read at its start
  await scene.start('node1', 'ztunnel');
  await ready(world.lab, 'node1');
  await settle(world.lab, inShop);
});

afterAll(async () => {
  client.close();
  plain.close();
  await world.close();
});

/** What the resolver was asked: "udp 10.244.1.2 A name". */
const asked = (): string[] =>
  readFileSync(world.lab.podLog('node2', 'legacy', 'resolver'), 'utf8')
    .trim()
    .split('\n');

/** One that there is, and one that is nobody's: no packet ever comes back from there. */
const servers = [
  ['the resolver, by IPv4', () => scene.ip('legacy/resolver', 4)],
  ['the resolver, by IPv6', () => scene.ip('legacy/resolver', 6)],
  ['nobody, by IPv4', () => '198.51.100.53'],
  ['nobody, by IPv6', () => '2001:db8::53'],
] as const;

describe.each(servers)('asking %s', (_, server) => {
  describe.each(['udp', 'udp-connected', 'tcp'] as const)('over %s', (transport) => {
    test('a service has its addresses, from ztunnel, and the answer comes from who was asked', async () => {
      for (const [type, family] of [
        ['A', 4],
        ['AAAA', 6],
      ] as const) {
        for (const name of ['web.shop.svc.cluster.local', 'old.legacy.svc.cluster.local']) {
          const answer = await client.ask({ op: 'dns', server: server(), transport, name, type });
          const vip = scene.vip(`${name.split('.')[1] ?? ''}/${name.split('.')[0] ?? ''}`, family);
          expect({ ...answer, addresses: answer.addresses.map(short) }).toEqual({ code: 0, addresses: [vip], from: server() });
        }
      }
      expect(asked().filter((line) => line.includes('svc.cluster.local'))).toEqual([]);
    });

    test('another name is answered by the resolver of ztunnel', async () => {
      const name = `${transport}-${server().includes(':') ? '6' : '4'}-${Math.random().toString(36).slice(2)}.example`;
      for (const type of ['A', 'AAAA'] as const) {
        const { addresses, from } = await client.ask({ op: 'dns', server: server(), transport, name, type });
        expect({ addresses, from }).toEqual({ addresses: [outside[type]], from: server() });
        // from the pod's own address: ztunnel asks in the pod's network namespace
        expect(asked().filter((line) => line.endsWith(` ${scene.ip('shop/client')} ${type} ${name}`)).length).toBeGreaterThan(0);
      }
    });
  });
});

test('a headless service has the addresses of its pods', async () => {
  const name = 'each.shop.svc.cluster.local';
  const { addresses } = await client.ask({ op: 'dns', server: '198.51.100.53', transport: 'udp', name, type: 'A' });
  expect(addresses.sort()).toEqual([scene.ip('shop/web-1'), scene.ip('shop/web-2')].sort());
});

test('a name that there is not is told so', async () => {
  const question = { op: 'dns', server: '198.51.100.53', name: 'nobody.invalid', type: 'A' } as const;
  for (const transport of ['udp', 'tcp'] as const)
    expect(await client.ask({ ...question, transport })).toMatchObject({ code: 3, addresses: [] });
});

test('names are found by their short forms, as the pod writes them', async () => {
  for (const name of ['web', 'web.shop', 'web.shop.svc'])
    expect(await client.ask({ op: 'dns', server: '198.51.100.53', transport: 'udp', name, type: 'A' })).toMatchObject({
      addresses: [scene.vip('shop/web')],
    });
});

test('a pod outside the mesh asks its resolver itself, and knows no service', async () => {
  const server = scene.ip('legacy/resolver');
  const name = 'direct.example';
  expect(await plain.ask({ op: 'dns', server, transport: 'udp', name, type: 'A' })).toMatchObject({ addresses: [outside.A], from: server });
  expect(asked()).toContain(`udp ${scene.ip('legacy/old')} A ${name}`);
  expect(await plain.ask({ op: 'dns', server, transport: 'udp', name: 'web.shop.svc.cluster.local', type: 'A' })).toMatchObject({
    code: 3,
  });
});

test('without a tunnel DNS is refused at once, and back when it is back', async () => {
  await scene.kill('node1', 'ztunnel');
  const question = { op: 'dns', server: scene.ip('legacy/resolver'), name: 'away.example', type: 'A' } as const;
  for (const transport of ['udp-connected', 'tcp'] as const)
    await expect(client.ask({ ...question, transport })).rejects.toThrow(/ECONNREFUSED/);
  await scene.start('node1', 'ztunnel');
  await ready(world.lab, 'node1');
  for (const transport of ['udp', 'udp-connected', 'tcp'] as const)
    expect(await client.ask({ ...question, transport })).toMatchObject({ addresses: [outside.A] });
});

/** As the lab writes addresses. */
function short(address: string): string {
  return address.includes(':') ? address.replace(/(:0)+:/, '::') : address;
}
