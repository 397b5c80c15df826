/** Istio's probe addresses: believed while istio-cni's host rule is in the node's netns, and only then. */
import { execFileSync } from 'node:child_process';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import type { Connected } from '../../support/endpoint.ts';
import type { Endpoint, TestPod } from '../../support/netns.ts';
import { Scene } from '../redirect/scene.ts';
import { flushRules, inNode, istioHostRule } from './rules.ts';

const PROBE = { v4: '169.254.7.127', v6: 'fd16:9254:7127:1337:ffff:ffff:ffff:ffff' };

let scene: Scene;
let kubelet: Endpoint;
let spoofer: Endpoint;
let pod: TestPod;
let cookie: bigint;

beforeAll(async () => {
  scene = await Scene.create();
  const tunnel = await scene.tunnel();
  pod = await scene.node.pod('web', 2);
  // somebody who may choose his source, and to whom the pod's answers come back
  const other = await scene.node.pod('spoofer', 3);
  await scene.node.ipIn(other.netnsName, `addr add ${PROBE.v4}/32 dev eth0`, `addr add ${PROBE.v6}/128 dev eth0 nodad`);
  await scene.node.ipIn(pod.netnsName, `route add ${PROBE.v4}/32 via ${other.ip4}`, `route add ${PROBE.v6}/128 via ${other.ip6}`);
  execFileSync('nsenter', [`--net=${scene.node.nodeNetns}`, 'sh', '-c', 'echo 1 > /proc/sys/net/ipv4/ip_forward']);
  [kubelet, spoofer] = [await scene.node.process('kubelet', scene.node.nodeNetns), await scene.app(other)];
  await (await scene.app(pod)).call('listen', { name: 'app', host: '::', port: 8080 });
  ({ cookie } = await scene.prepare(pod));
  await tunnel.call('serve', { name: 'strict', netns: pod.netns, ports: [15001, 15008] });
  scene.driver.activate(cookie);
});
afterEach(() => {
  flushRules(scene.node);
  scene.driver.refreshNode();
});
afterAll(() => scene.close());

type Family = 'v4' | 'v6';
const families = ['v4', 'v6'] as const;

function spoof(family: Family): Promise<Connected> {
  return spoofer.call('connect', { host: family === 'v4' ? pod.ip4 : pod.ip6, port: 8080, localAddress: PROBE[family], timeoutMs: 1000 });
}

/** Families of which the address is believed, as the programs have it. */
function believed(): number {
  const maps = scene.maps();
  try {
    return maps.settings.get(0)?.istio_probes ?? -1;
  } finally {
    maps.close();
  }
}

test('without istio-cni the address is anybody’s: captured, refused where identity is required', async () => {
  expect(believed()).toBe(0);
  for (const family of families) expect(await spoof(family), family).toMatchObject({ ok: false, code: 'ECONNREFUSED' });
  expect(scene.driver.counters(cookie).inboundPassed).not.toHaveProperty('probe');
});

describe.each(['iptables', 'nftables'] as const)('its rule by %s', (mode) => {
  test('is seen: probes with that source pass, by both families; when it goes they do not', async () => {
    istioHostRule[mode](scene.node, pod);
    expect(believed(), 'not before somebody looked').toBe(0);
    scene.driver.refreshNode();
    expect(believed()).toBe(3);
    const before = scene.driver.counters(cookie).inboundPassed['probe'] ?? 0;
    for (const family of families) expect(await spoof(family), family).toMatchObject({ ok: true, greeting: { by: 'app' } });
    expect(scene.driver.counters(cookie).inboundPassed['probe']).toBe(before + 2);

    scene.restart();
    expect(believed(), 'a new agent looks at its start').toBe(3);
    flushRules(scene.node);
    scene.driver.refreshNode();
    expect(believed()).toBe(0);
    for (const family of families) expect((await spoof(family)).ok, family).toBe(false);
  });

  test('gives the node’s own connections that source: no masquerading, and nothing falls back', async () => {
    istioHostRule[mode](scene.node, pod);
    inNode(scene.node, `ip addr add ${PROBE.v4}/32 dev br0; ip addr add ${PROBE.v6}/128 dev br0 nodad`);
    scene.driver.refreshNode();
    await scene.prepare(pod);
    await scene.driver.recheckPods();
    expect(await scene.warnings(pod, cookie)).toEqual([]);
    // its SYN comes with the probe address; the answer is routed to whoever has that address, so only the arrival counts here
    const before = scene.driver.counters(cookie).inboundPassed['probe'] ?? 0;
    await kubelet.call('connect', { host: pod.ip4, port: 8080, timeoutMs: 300 });
    expect(scene.driver.counters(cookie).inboundPassed['probe']).toBeGreaterThan(before);
    inNode(scene.node, `ip addr del ${PROBE.v4}/32 dev br0; ip addr del ${PROBE.v6}/128 dev br0`);
  });
});

test('a set that no rule uses, and a table of another name, prove nothing', () => {
  inNode(scene.node, 'ipset create istio-inpod-probes-v4 hash:ip; nft add table inet istio-ambient-nat; nft add table inet other');
  inNode(scene.node, "nft add set inet other istio-inpod-probes-v6 '{ type ipv6_addr; }'");
  inNode(scene.node, "nft add chain inet other c '{ type nat hook postrouting priority 100; }'");
  inNode(scene.node, 'nft add rule inet other c ip6 daddr @istio-inpod-probes-v6 accept');
  scene.driver.refreshNode();
  expect(believed()).toBe(0);
});
