/**
 * The node-level baseline: connections of an enrolled pod, and those to it, go through the encapsulating pairs into the tunnel's
 * namespace and are answered there with both addresses kept; everybody else's do not; afterwards nothing is left.
 * CULVERT_TEST_GENEVE=1 demands the genuine device (test/kernels/geneve.sh sets it).
 */
import { execFileSync } from 'node:child_process';
import { afterAll, afterEach, beforeAll, expect, test, vi } from 'vitest';
import { setUpGeneve, type Geneve, type GeneveCounters } from '../../../src/bench/geneve/index.ts';
import { APP_PORT, connect, emulated, GeneveScene, OUTSIDE, patienceMs } from './geneve-scene.ts';

if (emulated) vi.setConfig({ testTimeout: 600_000, hookTimeout: 600_000 });

let scene: GeneveScene;
let geneve: Geneve | undefined;
/** before any layout was ever here */
let before: string;

beforeAll(async () => {
  scene = await GeneveScene.create();
  before = scene.state();
});
afterEach(async () => {
  await geneve?.close();
  geneve = undefined;
});
afterAll(() => scene.close());

async function layout(): Promise<Geneve> {
  geneve = await scene.setUp();
  return geneve;
}

/** What was counted while the action ran. */
async function during(layout: Geneve, action: () => Promise<unknown>): Promise<GeneveCounters['redirected'] & { continued: number }> {
  const before = await layout.counters();
  await action();
  const after = await layout.counters();
  const [was, is] = [before, after].map(({ redirected, continued }) => ({ ...redirected, continued }));
  return Object.fromEntries(Object.entries(is!).map(([name, n]) => [name, n - was![name as keyof typeof was]])) as never;
}

test('out: taken through the outbound pair, answered in the tunnel under the address that was asked', async () => {
  const { node, meshed, plain, inMeshed } = scene;
  const up = await layout();
  const links = execFileSync('nsenter', [`--net=${node.nodeNetns}`, 'ip', '-d', 'link', 'show'], { encoding: 'utf8' });
  expect(links).toMatch(new RegExp(`istioin:[^]*${up.device} id 1000 remote 192\\.168\\.125\\.2[^]*istioout:[^]*${up.device} id 1001`));
  if (emulated) expect(up.device).toBe('geneve');

  const counted = await during(up, async () => {
    expect(await connect(inMeshed, OUTSIDE)).toEqual({ by: 'tunnel:15001', destination: `${OUTSIDE}:8080`, source: meshed.ip4 });
    // nobody has this address
    expect(await connect(inMeshed, '203.0.113.9', 81)).toEqual({ by: 'tunnel:15001', destination: '203.0.113.9:81', source: meshed.ip4 });
    // a neighbour on the same bridge
    expect(await connect(inMeshed, plain.ip4)).toMatchObject({ by: 'tunnel:15001', destination: `${plain.ip4}:8080` });
  });
  expect(counted).toMatchObject({ outbound: 3, inboundPlain: 0, inboundHbone: 0 });
  expect(await up.redirected()).toBe(3);
  const { devices } = await up.counters();
  expect(devices.outbound.sent).toBeGreaterThanOrEqual(3);
  if (emulated) console.log(`device ${up.device}: ${JSON.stringify(await up.counters())}`);
});

test('in: taken through the inbound pair, and the app sees its client behind the tunnel', async () => {
  const { meshed, outside, inMeshed } = scene;
  const up = await layout();
  const plain = await during(up, async () => {
    // answered by the app: the tunnel connected to it as the client
    expect(await connect(outside, meshed.ip4)).toEqual({ by: 'meshed', destination: `${meshed.ip4}:8080`, source: OUTSIDE });
  });
  expect(plain).toMatchObject({ outbound: 0, inboundPlain: 1, inboundHbone: 0 });
  const hbone = await during(up, async () => {
    expect(await connect(outside, meshed.ip4, 15_008)).toEqual({
      ...{ by: 'tunnel:15008', destination: `${meshed.ip4}:15008`, source: OUTSIDE },
    });
  });
  expect(hbone).toMatchObject({ outbound: 0, inboundPlain: 0, inboundHbone: 1 });

  // A connection that lives: its first packet only is wrapped, the rest comes over the tunnel's own link.
  const long = await during(up, async () => {
    expect(await inMeshed.call('open', { name: 'kept', host: OUTSIDE, port: APP_PORT, timeoutMs: patienceMs })).toMatchObject({ ok: true });
    for (const text of ['one', 'two', 'three']) expect(await inMeshed.call('echo', { name: 'kept', text })).toEqual({ ok: true });
  });
  expect(long.outbound).toBe(1);
  expect(long.continued).toBeGreaterThanOrEqual(4);
});

test("everybody else is left alone: a pod outside the set, the node's own connections, a pod that left", async () => {
  const { meshed, plain, outside, inMeshed, inPlain, onNode } = scene;
  const up = await layout();
  const none = { outbound: 0, inboundPlain: 0, inboundHbone: 0, continued: 0 };
  const counted = await during(up, async () => {
    expect(await connect(inPlain, OUTSIDE)).toEqual({ by: 'outside', destination: `${OUTSIDE}:8080`, source: plain.ip4 });
    expect(await connect(outside, plain.ip4)).toEqual({ by: 'plain', destination: `${plain.ip4}:8080`, source: OUTSIDE });
    // as the kubelet's probes
    expect(await connect(onNode, meshed.ip4)).toEqual({ by: 'meshed', destination: `${meshed.ip4}:8080`, source: '10.77.0.1' });
  });
  expect(counted).toEqual(none);

  const leave = await up.enrol(plain.netns);
  expect(await connect(inPlain, OUTSIDE)).toMatchObject({ by: 'tunnel:15001', source: plain.ip4 });
  expect(await connect(inMeshed, plain.ip4)).toMatchObject({ by: 'tunnel:15001' });
  await leave();
  expect(await during(up, () => connect(inPlain, OUTSIDE))).toEqual(none);
});

test('closed, or refused on the way, it leaves node, tunnel and pods as they were', async () => {
  const { node, meshed, inMeshed, tunnel } = scene;
  expect(scene.state()).toBe(before);
  const up = await layout();
  expect(scene.state()).toMatch(/conf\.istioin\.accept_local = 1\n[^]*conf\.istioout\.accept_local = 1\n/);
  await expect(scene.setUp()).rejects.toThrow(/already has (an ip rule|a device|routes)/);
  await up.close();
  await up.close();
  expect(scene.state()).toBe(before);
  expect(await connect(inMeshed, OUTSIDE)).toMatchObject({ by: 'outside', source: meshed.ip4 });

  // Half-way: somebody has a set of this name.
  const set = (...args: string[]): unknown => execFileSync('nsenter', [`--net=${node.nodeNetns}`, 'ipset', ...args]);
  set('create', 'culvert-gnv-pods', 'hash:net');
  await expect(scene.setUp()).rejects.toMatchObject({ code: 'LAB', message: expect.stringContaining('ipset create') as string });
  set('destroy', 'culvert-gnv-pods');
  expect(scene.state()).toBe(before);

  await expect(scene.setUp([])).rejects.toThrow('podNetns names no pod');
  await expect(scene.setUp([tunnel.netns])).rejects.toThrow('find the address of the pod');
  await expect(setUpGeneve({ nodeNetns: '/run/netns/cvt-none', tunnelNetns: tunnel.netns, podNetns: [meshed.netns] })).rejects.toThrow(
    '/run/netns/cvt-none',
  );
  await node.ipIn(tunnel.netnsName, 'route add default dev lo');
  await expect(scene.setUp()).rejects.toThrow('already has a default route');
  await node.ipIn(tunnel.netnsName, 'route delete default dev lo');
  expect(scene.state()).toBe(before);
});
