/**
 * The node's own connections beside kube-proxy's rules: what goes to a pod's address is a probe, and exempt; what is forwarded, and
 * what goes to the pod by the address of a service, is not. In iptables and in nftables mode, by both families.
 */
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import type { Connected } from '../../support/endpoint.ts';
import type { Endpoint, TestPod } from '../../support/netns.ts';
import { Scene } from '../redirect/scene.ts';
import { NODE_OUTSIDE, outsideHost } from './outside.ts';
import { CLUSTER_IP, flushRules, HOST_PORT, kubeProxy, NODE_PORT } from './rules.ts';

let scene: Scene;
let tunnel: Endpoint;
let kubelet: Endpoint;
let outside: Endpoint;
let pod: TestPod;
let strict: TestPod;
let cookie: bigint;
let strictCookie: bigint;

beforeAll(async () => {
  scene = await Scene.create();
  outside = await outsideHost(scene.node);
  [pod, strict] = [await scene.node.pod('web', 2), await scene.node.pod('strict', 3)];
  [tunnel, kubelet] = [await scene.tunnel(), await scene.node.process('kubelet', scene.node.nodeNetns)];
  for (const each of [pod, strict]) await (await scene.app(each)).call('listen', { name: each.name, host: '::', port: 8080 });
  cookie = await scene.enrol(pod, tunnel);
  // a tunnel under a policy that requires identity takes nothing that comes in the clear: none on 15006
  ({ cookie: strictCookie } = await scene.prepare(strict));
  await tunnel.call('serve', { name: 'strict', netns: strict.netns, ports: [15001, 15008] });
  scene.driver.activate(strictCookie);
});
afterEach(() => flushRules(scene.node));
afterAll(() => scene.close());

/** What changed in a pod's counters of inbound connections. */
async function inbound(of: bigint, act: () => Promise<unknown>): Promise<Record<string, number>> {
  const read = (): Record<string, number> => {
    const { inboundRedirected, inboundPassed, dropped } = scene.driver.counters(of);
    return { redirected: inboundRedirected, exempt: inboundPassed['exempt'] ?? 0, refused: dropped['no-tunnel'] ?? 0 };
  };
  const before = read();
  await act();
  return Object.fromEntries(
    Object.entries(read())
      .map(([name, n]) => [name, n - (before[name] ?? 0)] as const)
      .filter(([, n]) => n > 0),
  );
}

async function connect(who: Endpoint, host: string, port: number): Promise<Connected> {
  return who.call('connect', { host, port, timeoutMs: 1500 });
}

describe.each(['iptables', 'nftables'] as const)('kube-proxy in %s mode', (mode) => {
  describe.each(['v4', 'v6'] as const)('%s', (family) => {
    const podIp = (of: TestPod): string => (family === 'v4' ? of.ip4 : of.ip6);

    test('a node process to the address of the pod: exempt, the app sees the node', async () => {
      kubeProxy[mode](scene.node, pod);
      let result: Connected | undefined;
      expect(await inbound(cookie, async () => (result = await connect(kubelet, podIp(pod), 8080)))).toEqual({ exempt: 1 });
      const seen = family === 'v4' ? `::ffff:${result?.local ?? ''}` : result?.local;
      expect(result?.greeting).toMatchObject({ by: 'web', remote: seen });
      expect(await scene.warnings(pod, cookie)).toEqual([]);
    });

    test('the same under a policy that requires identity', async () => {
      kubeProxy[mode](scene.node, strict);
      let result: Connected | undefined;
      expect(await inbound(strictCookie, async () => (result = await connect(kubelet, podIp(strict), 8080)))).toEqual({ exempt: 1 });
      expect(result).toMatchObject({ ok: true, greeting: { by: 'strict' } });
    });

    test.each([
      ['the ClusterIP', () => ({ host: CLUSTER_IP[family], port: 80 })],
      ['the NodePort', () => ({ host: NODE_OUTSIDE[family], port: NODE_PORT })],
      ['the hostPort', () => ({ host: NODE_OUTSIDE[family], port: HOST_PORT })],
    ])('a node process by %s: not exempt, through the tunnel; refused where identity is required', async (_, target) => {
      kubeProxy[mode](scene.node, pod);
      let result: Connected | undefined;
      expect(await inbound(cookie, async () => (result = await connect(kubelet, target().host, target().port)))).toEqual({ redirected: 1 });
      expect(result?.greeting?.by).toBe('web');
      flushRules(scene.node);
      kubeProxy[mode](scene.node, strict);
      expect(await inbound(strictCookie, async () => (result = await connect(kubelet, target().host, target().port)))).toEqual({
        refused: 1,
      });
      expect(result).toMatchObject({ ok: false, code: 'ECONNREFUSED' });
    });

    test.each([
      ['the NodePort', NODE_PORT],
      ['the hostPort', HOST_PORT],
    ])('forwarded from outside by %s: not exempt, though masquerading gives it an address of the node', async (_, port) => {
      kubeProxy[mode](scene.node, pod);
      let result: Connected | undefined;
      expect(await inbound(cookie, async () => (result = await connect(outside, NODE_OUTSIDE[family], port)))).toEqual({ redirected: 1 });
      expect(result?.greeting?.by).toBe('web');
      if (port === NODE_PORT) expect(result?.greeting?.remote).toContain(family === 'v4' ? '10.77.0.1 ' : 'fd77::1 ');
      flushRules(scene.node);
      kubeProxy[mode](scene.node, strict);
      expect(await inbound(strictCookie, async () => (result = await connect(outside, NODE_OUTSIDE[family], port)))).toEqual({
        refused: 1,
      });
      expect(result).toMatchObject({ ok: false, code: 'ECONNREFUSED' });
    });

    test('kube-proxy masquerades services only: direct connections are as sent', async () => {
      kubeProxy[mode](scene.node, pod);
      await scene.driver.recheckPods();
      expect(await scene.warnings(pod, cookie)).toEqual([]);
      expect(await inbound(cookie, () => connect(kubelet, podIp(pod), 8080))).toEqual({ exempt: 1 });
    });
  });
});
