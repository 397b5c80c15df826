/** The distribution's containerd 1.6, which speaks CNI 1.0.0 and knows no STATUS, and kube-proxy in nftables mode. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { appPod, appService } from '../../support/cluster/app.ts';
import { startCluster, type Cluster } from '../../support/cluster/cluster.ts';
import { inStep } from '../../support/cluster/in-step.ts';
import { chainOf, hostLeftovers } from '../../support/cluster/inventory.ts';
import { Mesh, MESH_NAMESPACE } from '../../support/cluster/mesh.ts';
import { becomes, eventsOf, labelNamespace, lives, podsOf } from '../../support/cluster/pods.ts';
import { debianContainerdVersion } from '../../support/cluster/tools.ts';
import { closeWithoutTrace } from '../../support/cluster/traces.ts';
import { until } from '../../support/kubernetes/until.ts';

const LIMIT_MS = 240_000;
const found = debianContainerdVersion();
const PROBES = {
  readinessProbe: { httpGet: { path: '/', port: 8080 }, periodSeconds: 1, timeoutSeconds: 10, failureThreshold: 1 },
  livenessProbe: { tcpSocket: { port: 8080 }, periodSeconds: 1, timeoutSeconds: 10, failureThreshold: 1 },
};

describe.skipIf(!found.startsWith('1.6.'))(`containerd 1.6 (the distribution has ${found})`, () => {
  let cluster: Cluster;
  let mesh: Mesh;

  beforeAll(async () => {
    cluster = await startCluster({ containerd: '1.6', proxyMode: 'nftables', coredns: true });
    mesh = await Mesh.prepare(cluster);
    await mesh.install();
    await cluster.objects.namespace('shop', { 'istio.io/dataplane-mode': 'ambient' });
    await cluster.apply([
      appPod({ namespace: 'shop', name: 'client' }),
      appPod({ namespace: 'shop', name: 'web', container: PROBES }),
      appService('shop', 'web', { app: 'web' }),
    ]);
    for (const name of ['client', 'web']) await cluster.podReady('shop', name);
  }, LIMIT_MS);
  afterAll(() => closeWithoutTrace(cluster), LIMIT_MS);

  const ask = (): Promise<string> =>
    cluster.kubectl('exec', '-n', 'shop', 'client', '--', 'wget', '-q', '-O', '-', 'http://web/').then((text) => text.trim());
  const settled = (namespaces = ['shop']): Promise<number> => inStep({ cluster, mesh, node: cluster.nodes[0]!, namespaces });
  const probesFailed = async (): Promise<string[]> =>
    (await eventsOf(cluster, 'shop', 'web')).filter(({ reason }) => reason === 'Unhealthy').map(({ message }) => message);

  it('is what runs here', async () => {
    const [node] = (await cluster.api.list('/api/v1/nodes')).items;
    const { nodeInfo } = node!['status'] as { nodeInfo: { containerRuntimeVersion: string } };
    expect(nodeInfo.containerRuntimeVersion).toMatch(/^containerd:\/\/1\.6\./);
    expect(chainOf(cluster.nodes[0]!)).toEqual(['bridge', 'portmap', 'culvert-cni']);
  });

  it('enrols at birth', async () => {
    await becomes(cluster, 'shop', ['client', 'web'], 'enabled');
    expect(await settled()).toBe(2);
    expect(await ask()).toBe('ok');
    expect((await mesh.pod('node1', 'shop/client')).counters.outboundRedirected).toBeGreaterThan(0);
  });

  it(
    'by label, without a failed probe',
    async () => {
      const before = await lives(cluster, 'shop');
      for (let round = 0; round < 3; round++) {
        await labelNamespace(cluster, 'shop', null);
        await becomes(cluster, 'shop', ['client', 'web'], undefined);
        expect(await ask()).toBe('ok');
        await labelNamespace(cluster, 'shop', 'ambient');
        await becomes(cluster, 'shop', ['client', 'web'], 'enabled');
        expect(await ask()).toBe('ok');
      }
      expect(await lives(cluster, 'shop')).toEqual(before);
      expect(await probesFailed()).toEqual([]);
    },
    LIMIT_MS,
  );

  it(
    'forgets a pod that is deleted, and enrols its successor of the same name',
    async () => {
      const pod = appPod({ namespace: 'shop', name: 'brief' });
      for (let round = 0; round < 2; round++) {
        await cluster.apply([pod]);
        await cluster.podReady('shop', 'brief');
        await becomes(cluster, 'shop', ['brief'], 'enabled');
        expect(await settled()).toBe(3);
        await cluster.remove([pod]);
        await cluster.podGone('shop', 'brief');
        expect(await settled()).toBe(2);
      }
    },
    LIMIT_MS,
  );

  it(
    'is left as it was',
    async () => {
      const before = await lives(cluster, 'shop');
      await mesh.uninstall();
      await until('its pods to be gone', async () => (await podsOf(cluster, MESH_NAMESPACE)).length === 0, 90_000);
      await until('nothing to be left on the node', () => hostLeftovers(cluster.nodes[0]!).length === 0);
      expect(chainOf(cluster.nodes[0]!)).toEqual(['bridge', 'portmap']);
      expect(await ask()).toBe('ok');
      expect(await lives(cluster, 'shop')).toEqual(before);
      expect(await probesFailed()).toEqual([]);
    },
    LIMIT_MS,
  );
});
