/**
 * A pod goes in and out of the mesh seventy times while probes of the node run against it without a pause, by both families, beside
 * kube-proxy's rules and under a policy that requires identity (nothing listens on 15006). Not one probe may fail.
 */
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { Endpoint, TestPod } from '../../support/netns.ts';
import { Scene } from '../redirect/scene.ts';
import { flushRules, kubeProxy } from './rules.ts';

const TOGGLES = 70;
const PROBES = 2000;

let scene: Scene;
let tunnel: Endpoint;
let kubelets: Endpoint[];
let pod: TestPod;

beforeAll(async () => {
  scene = await Scene.create();
  tunnel = await scene.tunnel();
  pod = await scene.node.pod('toggled', 2);
  kubelets = await Promise.all([1, 2].map(() => scene.node.process('kubelet', scene.node.nodeNetns)));
  await (await scene.app(pod)).call('listen', { name: 'app', host: '::', port: 8080 });
});
afterAll(() => scene.close());

test.each([
  ['iptables', 'node'],
  ['nftables', 'kubelet'],
] as const)(
  `kube-proxy in %s mode, exempt: %s`,
  async (mode, probeExemption) => {
    kubeProxy[mode](scene.node, pod);
    scene.restart(probeExemption === 'kubelet' ? { probeExemption, kubeletCgroups: ['/kubelet'] } : {});
    const targets = [pod.ip4, pod.ip6];
    await Promise.all(kubelets.map((k, i) => k.call('load', { name: 'probe', host: targets[i] ?? '', port: 8080, timeoutMs: 5000 })));
    const started = performance.now();
    let toggles = 0;
    let probes = 0;
    let exempt = 0;
    const failed: Record<string, number>[] = [];
    while (toggles < TOGGLES || probes < PROBES) {
      const { cookie } = await scene.prepare(pod);
      await tunnel.call('serve', { name: 'strict', netns: pod.netns, ports: [15001, 15008] });
      scene.driver.activate(cookie);
      await new Promise((resolve) => setTimeout(resolve, 20));
      exempt += scene.driver.counters(cookie).inboundPassed['exempt'] ?? 0;
      scene.driver.drain(cookie);
      await tunnel.call('unserve', { name: 'strict' });
      await scene.remove(pod, cookie, 2000);
      if (++toggles % TOGGLES !== 0) continue;
      const results = await Promise.all(kubelets.map((k) => k.call('stop', { name: 'probe' })));
      probes += results.reduce((sum, { ok }) => sum + ok, 0);
      failed.push(...results.map((result) => result.failed));
      if (probes < PROBES)
        await Promise.all(kubelets.map((k, i) => k.call('load', { name: 'probe', host: targets[i] ?? '', port: 8080, timeoutMs: 5000 })));
    }
    const seconds = ((performance.now() - started) / 1000).toFixed(1);
    console.log(
      `${mode}, exempt ${probeExemption}: ${toggles} toggles in ${seconds} s, ${probes} probes, ${exempt} of them by exact tuple`,
    );
    expect(
      failed.every((each) => Object.keys(each).length === 0),
      JSON.stringify(failed),
    ).toBe(true);
    expect(exempt).toBeGreaterThan(0);
    flushRules(scene.node);
  },
  180_000,
);
