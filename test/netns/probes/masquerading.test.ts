/**
 * Node traffic that is rewritten on its way to pods: found by the agent's trial of each pod, answered by an exemption of the node's
 * address for that pod alone, told, and taken back when the rule goes.
 */
import { execFileSync } from 'node:child_process';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { REASON } from '../../../src/maps/index.ts';
import type { Connected } from '../../support/endpoint.ts';
import type { Endpoint, TestPod } from '../../support/netns.ts';
import { eventually, Scene } from '../redirect/scene.ts';
import { flushRules, masqueradeNode, type NodeMasquerade } from './rules.ts';

/** of the node, but not the one its route to pods gives */
const OTHER = { v4: '10.79.0.9', v6: 'fd79::9' };
const STRANGER = { v4: '192.0.2.7', v6: '2001:db8::7' };

let scene: Scene;
let tunnel: Endpoint;
let kubelet: Endpoint;
let neighbour: Endpoint;
let pod: TestPod;
let cookie: bigint;
let next = 10;

beforeAll(async () => {
  scene = await Scene.create();
  await scene.node.ip(`addr add ${OTHER.v4}/32 dev br0`, `addr add ${OTHER.v6}/128 dev br0 nodad`);
  [tunnel, kubelet] = [await scene.tunnel(), await scene.node.process('kubelet', scene.node.nodeNetns)];
  neighbour = await scene.app(await scene.node.pod('neighbour', 3));
});
beforeEach(async () => {
  pod = await scene.node.pod(`pod${next}`, next++);
  await (await scene.app(pod)).call('listen', { name: 'app', host: '::', port: 8080 });
});
afterEach(async () => {
  await tunnel.call('unserve', { name: 'strict' });
  await scene.remove(pod, cookie);
  flushRules(scene.node);
});
afterAll(() => scene.close());

/** Under a policy that requires identity: the tunnel takes nothing on 15006. */
async function enrol(): Promise<void> {
  ({ cookie } = await scene.prepare(pod));
  await tunnel.call('serve', { name: 'strict', netns: pod.netns, ports: [15001, 15008] });
  scene.driver.activate(cookie);
}

const probe = (family: 'v4' | 'v6'): Promise<Connected> =>
  kubelet.call('connect', { host: family === 'v4' ? pod.ip4 : pod.ip6, port: 8080, timeoutMs: 1000 });

/** What the map says of this pod. */
function sources(): string[] {
  const maps = scene.maps();
  try {
    const keys = maps.nodeSources.keys().filter((key) => key.cookie === cookie);
    return keys.map(({ addr }) => addr).toSorted();
  } finally {
    maps.close();
  }
}

const warned = (n: number): Promise<void> => eventually(`${n} warnings`, async () => (await scene.warnings(pod, cookie)).length === n);

test('without such a rule nothing falls back, and nobody but the agent sees the trial', async () => {
  let examined = false;
  const subscription = scene.driver.onWarnings(() => (examined = true));
  await enrol();
  await scene.driver.recheckPods();
  expect(await scene.warnings(pod, cookie)).toEqual([]);
  expect(sources()).toEqual([]);
  expect(examined).toBe(false);
  for (const family of ['v4', 'v6'] as const) expect(await probe(family)).toMatchObject({ ok: true, greeting: { by: 'app' } });
  expect(scene.driver.counters(cookie)).toMatchObject({ inboundPassed: { exempt: 2 }, dropped: {} });
  const maps = scene.maps();
  expect(maps.trials.keys()).toEqual([]);
  maps.close();
  subscription.close();
});

describe.each(['iptables', 'nftables'] as const)('by %s', (backend) => {
  const rows: { name: string; rule: NodeMasquerade; expected: { v4: string; v6: string }; says: RegExp }[] = [
    {
      name: 'SNAT to another address of the node',
      rule: { to: OTHER },
      expected: OTHER,
      says: /arrive with source (10\.79\.0\.9|fd79::9) instead of/,
    },
    {
      name: 'MASQUERADE with random ports',
      rule: { randomPorts: true },
      expected: { v4: '10.77.0.1', v6: 'fd77::1' },
      says: /arrive with another source port/,
    },
  ];

  test.each(rows)('$name: there before the pod', async ({ rule, expected, says }) => {
    masqueradeNode[backend](scene.node, rule);
    const told: bigint[] = [];
    const subscription = scene.driver.onWarnings((of) => told.push(of));
    await enrol();
    await warned(2);
    subscription.close();
    expect(told).toEqual([cookie]);
    for (const warning of await scene.warnings(pod, cookie)) expect(warning).toMatch(says);
    expect(sources()).toEqual([expected.v4, expected.v6].toSorted());
    for (const family of ['v4', 'v6'] as const) expect(await probe(family), family).toMatchObject({ ok: true, greeting: { by: 'app' } });
    expect(scene.driver.counters(cookie).inboundPassed).toMatchObject({ node: 2 });
    // only those: everybody else is captured as before
    for (const host of [pod.ip4, pod.ip6]) expect(await neighbour.call('connect', { host, port: 8080 })).toMatchObject({ ok: false });
    expect(scene.driver.snapshot().find((each) => each.cookie === cookie)).toMatchObject({ state: 'active', flags: { dns: false } });
  });

  test.each(rows)('$name: comes later, and goes again', async ({ rule, expected }) => {
    await enrol();
    await scene.driver.recheckPods();
    masqueradeNode[backend](scene.node, rule);
    expect(await probe('v4')).toMatchObject({ ok: false, code: 'ECONNREFUSED' });
    await scene.driver.recheckPods();
    expect(sources()).toEqual([expected.v4, expected.v6].toSorted());
    for (const family of ['v4', 'v6'] as const) expect((await probe(family)).ok, family).toBe(true);

    // a new agent finds it as it is
    scene.restart();
    expect((await probe('v4')).ok).toBe(true);
    await scene.prepare(pod);
    await warned(2);
    expect((await probe('v6')).ok).toBe(true);

    flushRules(scene.node);
    await scene.driver.recheckPods();
    expect(sources()).toEqual([]);
    expect(await scene.warnings(pod, cookie)).toEqual([]);
    for (const family of ['v4', 'v6'] as const) expect((await probe(family)).ok, family).toBe(true);
  });

  test('plain MASQUERADE to the address it has anyway changes nothing', async () => {
    masqueradeNode[backend](scene.node, {});
    await enrol();
    await scene.driver.recheckPods();
    expect(await scene.warnings(pod, cookie)).toEqual([]);
    expect(sources()).toEqual([]);
    for (const family of ['v4', 'v6'] as const) expect((await probe(family)).ok, family).toBe(true);
  });

  test('SNAT to an address that is not the node’s: told, nobody exempt', async () => {
    masqueradeNode[backend](scene.node, { to: STRANGER });
    await enrol();
    await warned(2);
    for (const warning of await scene.warnings(pod, cookie))
      expect(warning).toMatch(/which is no address of this node: probes take the tunnel/);
    expect(sources()).toEqual([]);
    for (const family of ['v4', 'v6'] as const) expect((await probe(family)).ok, family).toBe(false);
  });

  test('where only kubelet is exempt: told, no address is exempt', async () => {
    scene.restart({ probeExemption: 'kubelet', kubeletCgroups: ['/kubelet'] });
    masqueradeNode[backend](scene.node, { to: OTHER });
    await enrol();
    await warned(2);
    for (const warning of await scene.warnings(pod, cookie)) expect(warning).toMatch(/kubelet's cannot be told from others/);
    expect(sources()).toEqual([]);
    expect((await probe('v4')).ok).toBe(false);
    scene.restart();
  });
});

/** As CAP_NET_RAW allows any container: SYNs to the trial's port with the node's address, until `done`. */
async function forgeTrials(attacker: TestPod, done: () => Promise<void>): Promise<void> {
  const quiet = 'echo 1 > /proc/sys/net/ipv4/conf/all/arp_ignore; echo 2 > /proc/sys/net/ipv4/conf/all/arp_announce';
  execFileSync('nsenter', [`--net=${attacker.netns}`, 'sh', '-c', quiet]);
  await scene.node.ipIn(attacker.netnsName, 'addr add 10.77.0.1/32 dev lo');
  const endpoint = await scene.app(attacker);
  const loads = Array.from({ length: 100 }, (_, i) => `load${i}`);
  for (const name of loads) await endpoint.call('load', { name, host: pod.ip4, port: 15002, localAddress: '10.77.0.1', timeoutMs: 5 });
  try {
    await done();
  } finally {
    for (const name of loads) await endpoint.call('stop', { name });
  }
}

test('who forges trials with the node’s address exempts nobody', async () => {
  await enrol();
  await scene.driver.recheckPods();
  await forgeTrials(await scene.node.pod('attacker', 4), async () => {
    for (let i = 0; i < 40; i++) {
      await scene.driver.recheckPods();
      expect(sources()).toEqual([]);
    }
  });
  expect(await scene.warnings(pod, cookie)).toEqual([]);
  const maps = scene.maps();
  expect(maps.counters.get({ cookie, reason: REASON.MISC_TRIAL })).toBeGreaterThan(100n); // more than the agent's own
  maps.close();
});

test('two looks at all pods are one', async () => {
  await enrol();
  const first = scene.driver.recheckPods();
  expect(scene.driver.recheckPods()).toBe(first);
  await first;
  expect(scene.driver.recheckPods()).not.toBe(first);
});

test('what is exempt by address goes with the pod, and what a killed agent left of it, too', async () => {
  masqueradeNode.nftables(scene.node, { to: OTHER });
  await enrol();
  await warned(2);
  scene.driver.close();
  const maps = scene.maps();
  maps.nodeSources.set({ cookie: 1n << 40n, addr: '10.0.0.1' }, 1);
  maps.trials.set({ cookie, addr: pod.ip4 }, { src: '::', sport: 0, seen: 0 });
  scene.driver = scene.start();
  expect(maps.trials.keys()).toEqual([]);
  expect(maps.nodeSources.keys().every((key) => key.cookie === cookie)).toBe(true);
  await scene.remove(pod, cookie);
  expect(maps.nodeSources.keys()).toEqual([]);
  maps.close();
});
