/** What istio-cni left on the node is taken off when nobody needs it any more, by each of its ways, and no probe fails by that. */
import { execFileSync } from 'node:child_process';
import { createServer, type Server } from 'node:net';
import { once } from 'node:events';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { lookAtLeftovers } from '../../../src/agent/checks/istio-cni.ts';
import { createLogger } from '../../../src/base/log.ts';
import { captures, IstioOnNode, IstioRules, readTraces, type IstioRulesOptions } from '../../../src/redirect/istio-cni/index.ts';
import { anyRules, readNodeTraces } from '../../../src/redirect/istio-cni/node-traces.ts';
import { isClean, type Traces } from '../../../src/redirect/istio-cni/traces.ts';
import { Netns } from '../../../src/sys/netns.ts';
import { applyIstioRules, ISTIO_VARIANTS } from '../../support/istio-rules.ts';
import type { Endpoint, TestPod } from '../../support/netns.ts';
import { eventually, Scene, withFd } from '../redirect/scene.ts';
import { flushRules, inNode, istioHostRule, kubeProxy } from './rules.ts';

/** The third kind is below; CULVERT_TEST_DRIVERS=all: all of them here. */
const VARIANTS = ISTIO_VARIANTS.filter((variant) => process.env['CULVERT_TEST_DRIVERS'] === 'all' || variant !== 'iptables-nft');
const log = createLogger('test', process.env['CULVERT_TEST_LOG'] ?? 'silent');

let scene: Scene;
let tunnel: Endpoint;
let kubelet: Endpoint;
let pod: TestPod;
let cookie: bigint;
let rules: IstioRules;
let options: IstioRulesOptions;
let onNode: IstioOnNode;
let next = 2;
/** netns of pods that nobody enrolled */
const others: string[] = [];

beforeAll(async () => {
  scene = await Scene.create();
  [tunnel, kubelet] = [await scene.tunnel(), await scene.node.process('kubelet', scene.node.nodeNetns)];
});
afterEach(async () => {
  await rules.close();
  await tunnel.call('unserve', { name: 'strict' });
  await scene.remove(pod, cookie);
  flushRules(scene.node);
  inNode(scene.node, 'for t in iptables-legacy ip6tables-legacy; do $t -t nat -F; $t -t nat -X; done');
});
afterAll(() => scene.close());

const socketPath = (): string => `${scene.node.dir}/pluginevent.sock`;

/** An agent's part, as it starts. */
function start(): void {
  onNode = new IstioOnNode({
    nodeNetns: scene.node.nodeNetns,
    deadlineMs: 20_000,
    log,
    lockFile: `${scene.node.dir}/xtables.lock`,
    sockets: [socketPath()],
    others: () => others,
    pollMs: 20,
  });
  options = { keep: false, deadlineMs: 20_000, log, lockFile: `${scene.node.dir}/pods.lock`, pollMs: 20, node: onNode };
  rules = new IstioRules(options);
}

/** Of the node, as its tools show it; counters and handles left out. */
function nodeState(): string {
  const shown = 'for t in legacy nft; do iptables-$t-save; ip6tables-$t-save; done; nft list ruleset; ipset list; ip rule; ip -6 rule';
  return execFileSync('nsenter', [`--net=${scene.node.nodeNetns}`, 'sh', '-ec', shown], { encoding: 'utf8', stdio: 'pipe' })
    .split('\n')
    .filter((line) => !line.startsWith('#'))
    .map((line) => line.replaceAll(/\[\d+:\d+\]|packets \d+ bytes \d+/g, ''))
    .join('\n');
}

function rulesOnNode(): boolean {
  using node = Netns.open(scene.node.nodeNetns);
  return anyRules(readNodeTraces(node));
}

function tracesInPod(): Traces {
  using netns = Netns.open(pod.netns);
  return readTraces(netns);
}

/** A pod in which policy requires identity, by Istio's rules: only probes get through without it. */
async function istioPod(variant: (typeof ISTIO_VARIANTS)[number]): Promise<string> {
  pod = await scene.node.pod(`pod${next}`, next++);
  await scene.node.ipIn(
    pod.netnsName,
    'route replace 169.254.7.127/32 via 10.77.0.1',
    'route replace fd16:9254:7127:1337:ffff:ffff:ffff:ffff/128 via fd77::1',
  );
  await (await scene.app(pod)).call('listen', { name: 'app', host: '::', port: 8080 });
  kubeProxy[variant === 'nftables' ? 'nftables' : 'iptables'](scene.node, pod);
  const proxy = 'iptables-legacy -t nat -N ISTIO_OUTPUT; iptables-legacy -t nat -A OUTPUT -d 192.0.2.9 -j ISTIO_OUTPUT'; // the node's own sidecar
  inNode(scene.node, `${proxy}; iptables-legacy -t nat -A POSTROUTING -s 192.0.2.9 -j ACCEPT; ip6tables-legacy -t nat -N OTHERS`);
  const before = nodeState();
  if (variant === 'nftables') istioHostRule.nftables(scene.node, pod);
  else istioHostRule.iptables(scene.node, pod, variant.slice('iptables'.length));
  applyIstioRules(pod, variant);
  start();
  scene.driver.refreshNode();
  await withFd(pod.netns, (fd) => expect(rules.meet(scene.target(pod, fd))).toBe(true));
  ({ cookie } = await scene.prepare(pod));
  await tunnel.call('serve', { name: 'strict', netns: pod.netns, ports: [15001, 15008] });
  return before;
}

test.each(VARIANTS)('rules of %s: once the pod is ours; the rest when the last probe that they translate has ended', async (variant) => {
  const before = await istioPod(variant);
  expect(await kubelet.call('open', { name: 'old', host: pod.ip4, port: 8080 })).toMatchObject({ ok: true, greeting: { by: 'app' } });
  for (const [name, host] of [
    ['v4', pod.ip4],
    ['v6', pod.ip6],
  ] as const) {
    await kubelet.call('connect', { host, port: 8080, timeoutMs: 5000 }); // neighbours know each other from here on
    await kubelet.call('load', { name, host, port: 8080, pauseMs: 2, timeoutMs: 2000 });
  }
  await rules.recheck();
  expect(rulesOnNode(), "while the pod has Istio's").toBe(true);
  scene.driver.activate(cookie);
  await rules.release(cookie);
  await eventually('the rule is gone', () => !rulesOnNode());
  expect(await kubelet.call('echo', { name: 'old', text: 'translated' })).toEqual({ ok: true });
  expect(nodeState(), 'for the sake of that one').not.toBe(before);
  await kubelet.call('shut', { name: 'old' });
  await eventually('as before istio-cni', () => nodeState() === before).catch(() => undefined);
  expect(nodeState()).toBe(before);
  await onNode.settled();
  await rules.recheck();
  expect([nodeState(), rules.nodeWarnings()]).toEqual([before, []]);
  for (const name of ['v4', 'v6']) {
    const { ok, failed } = await kubelet.call('stop', { name });
    expect([name, failed]).toEqual([name, {}]);
    expect(ok, name).toBeGreaterThan(20);
  }
});

describe('what is refused, or comes back', () => {
  let istio: Server | undefined;
  afterEach(() => {
    istio?.close();
    others.length = 0;
  });

  test('stays while istio-cni serves or a pod of others has its rules; in the pod it is said; sets alone go, too', async () => {
    const before = await istioPod('iptables-nft');
    istio = createServer().listen(socketPath());
    await once(istio, 'listening');
    const other = await scene.node.pod(`pod${next}`, next++);
    applyIstioRules(other, 'iptables-legacy');
    others.push(scene.node.nodeNetns, other.netns);
    scene.driver.activate(cookie);
    await rules.release(cookie);
    await rules.recheck();
    expect(rules.nodeWarnings()).toEqual([expect.stringContaining('two agents fight') as string]);
    istio.close();
    await once(istio, 'close');
    await rules.recheck();
    expect(rules.nodeWarnings()).toEqual([
      expect.stringContaining(`a pod that is not ours has istio-cni's rules (${other.netns})`) as string,
    ]);
    expect(rulesOnNode()).toBe(true);
    const doctor = (): string | undefined => lookAtLeftovers({ driver: { leftovers: () => rules.nodeWarnings() } }, scene.node);
    expect(doctor).toThrow('a pod that is not ours');
    others.pop();
    await rules.recheck();
    expect([rulesOnNode(), rules.nodeWarnings(), doctor()]).toEqual([false, [], undefined]);
    await onNode.settled();
    expect(nodeState()).toBe(before);
    inNode(scene.node, `ip rule add to ${pod.ip4} lookup 123 pref 512; ip rule add to ${pod.ip4} lookup main pref 512`);
    expect(doctor(), 'not on a node for branch interfaces').toBeUndefined();
    inNode(scene.node, 'echo 0 > /proc/sys/net/ipv4/tcp_early_demux');
    expect(doctor()).toMatch(/^1 rules of routing policy with priority 512/);
    inNode(scene.node, 'ip rule del pref 512; ip rule del pref 512');

    // rules that come back into the pod: said there, left until a pause is over
    await eventually('nothing is left in the pod', () => isClean(tracesInPod()));
    const told: bigint[] = [];
    const subscription = rules.onWarnings((of) => told.push(of));
    applyIstioRules(pod, 'nftables');
    await rules.recheck();
    await rules.recheck();
    expect([captures(tracesInPod()), told]).toEqual([true, [cookie]]);
    expect(rules.warnings(cookie)).toEqual([expect.stringContaining('were put back after they had been taken off') as string]);
    options.againMs = 0;
    await rules.recheck();
    expect(captures(tracesInPod())).toBe(false);
    await rules.recheck();
    expect([rules.warnings(cookie), told]).toEqual([[], [cookie, cookie]]);
    subscription.close();

    // an agent that ended before the sets went
    inNode(scene.node, 'ipset create istio-inpod-probes-v4 hash:ip; ipset create istio-inpod-probes-v4-mine hash:ip');
    await rules.close();
    start();
    await rules.recheck();
    await onNode.settled();
    inNode(scene.node, 'ipset destroy istio-inpod-probes-v4-mine');
    expect(nodeState()).toBe(before);
  });
});
