/** The life of pods on a node of the mesh: killed sandboxes, crowds, and what people get wrong. */
import { readFileSync, writeFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { appPod, appService } from '../../support/cluster/app.ts';
import { startCluster, type Cluster } from '../../support/cluster/cluster.ts';
import { BUSYBOX_IMAGE } from '../../support/cluster/images.ts';
import { inStep } from '../../support/cluster/in-step.ts';
import { chainOf, hostLeftovers, netnsSettings } from '../../support/cluster/inventory.ts';
import { Mesh, MESH_NAMESPACE } from '../../support/cluster/mesh.ts';
import type { ClusterNode } from '../../support/cluster/node.ts';
import { becomes, eventsOf, lives, podsOf, redirectionOf, statusOf } from '../../support/cluster/pods.ts';
import { closeWithoutTrace } from '../../support/cluster/traces.ts';
import { until } from '../../support/kubernetes/until.ts';

const LIMIT_MS = 240_000;
/** Pods made at once; sixty are what a node may see in bad hours, and their figures are only then taken. */
const CROWD = Number(process.env['CULVERT_TEST_CROWD'] ?? 24);
const AMBIENT = { 'istio.io/dataplane-mode': 'ambient' };

let cluster: Cluster;
let mesh: Mesh;
let node: ClusterNode;

beforeAll(async () => {
  cluster = await startCluster({ coredns: true, dualStack: true });
  node = cluster.nodes[0]!;
  mesh = await Mesh.prepare(cluster);
  await mesh.install();
  await cluster.objects.namespace('shop', AMBIENT);
  await cluster.apply([
    appPod({ namespace: 'shop', name: 'client' }),
    appPod({
      namespace: 'shop',
      name: 'web',
      container: {
        readinessProbe: { httpGet: { path: '/', port: 8080 }, periodSeconds: 1, timeoutSeconds: 10, failureThreshold: 1 },
        livenessProbe: { tcpSocket: { port: 8080 }, periodSeconds: 1, timeoutSeconds: 10, failureThreshold: 1 },
      },
    }),
    appService('shop', 'web', { app: 'web' }),
  ]);
  for (const name of ['client', 'web']) await cluster.podReady('shop', name);
}, LIMIT_MS);
afterAll(() => closeWithoutTrace(cluster), LIMIT_MS);

const ask = (from: string, url = 'http://web/'): Promise<string> =>
  cluster.kubectl('exec', '-n', 'shop', from, '--', 'wget', '-q', '-O', '-', url).then((text) => text.trim());

const settled = (): Promise<number> => inStep({ cluster, mesh, node, namespaces: ['shop'] });

describe('pods', () => {
  it(
    'whose sandbox is killed are enrolled again with another one',
    async () => {
      await settled();
      const [before, sandbox] = [(await podsOf(cluster, 'shop', 'app=web'))[0]!, await node.sandbox('shop', 'web')];
      await node.run(['kill', '-9', String(sandbox.pid)]);
      await until('another sandbox', async () => (await node.sandbox('shop', 'web').catch(() => sandbox)).id !== sandbox.id, 60_000);
      await until(
        'another address',
        async () => statusOf((await podsOf(cluster, 'shop', 'app=web'))[0]!).podIP !== statusOf(before).podIP,
        60_000,
      );
      const after = await cluster.podReady('shop', 'web');
      expect(after.metadata.uid).toBe(before.metadata.uid);
      expect((await eventsOf(cluster, 'shop', 'web')).map(({ reason }) => reason)).toContain('SandboxChanged');
      await becomes(cluster, 'shop', ['web'], 'enabled');
      await settled();
      const counters = async (): Promise<number> => (await mesh.pod(node.name, 'shop/web')).counters.inboundRedirected;
      await until('web to be served at its new address', async () => (await ask('client').catch(() => '')) === 'ok');
      expect(await counters()).toBeGreaterThan(0);
    },
    LIMIT_MS,
  );

  it(
    `${String(CROWD)} of them, made, scaled and replaced as fast as can be`,
    async () => {
      const began = performance.now();
      const scale = (replicas: number): Promise<unknown> =>
        cluster.api.patch('/apis/apps/v1/namespaces/shop/deployments/crowd', { spec: { replicas } }, 'merge');
      const template = {
        metadata: { labels: { app: 'crowd' } },
        spec: {
          terminationGracePeriodSeconds: 1,
          enableServiceLinks: false,
          containers: [{ name: 'app', image: BUSYBOX_IMAGE, imagePullPolicy: 'Never' }],
        },
      };
      await cluster.apply([
        {
          ...{ apiVersion: 'apps/v1', kind: 'Deployment', metadata: { namespace: 'shop', name: 'crowd' } },
          spec: {
            replicas: CROWD,
            selector: { matchLabels: template.metadata.labels },
            template,
            strategy: { rollingUpdate: { maxSurge: '50%' } },
          },
        },
        {
          ...{ apiVersion: 'batch/v1', kind: 'Job', metadata: { namespace: 'shop', name: 'sums' } },
          spec: {
            ...{ completions: 10, parallelism: 10 },
            template: {
              metadata: { labels: { app: 'sums' } },
              spec: {
                ...template.spec,
                restartPolicy: 'Never',
                containers: [{ ...template.spec.containers[0], command: ['wget', '-q', '-O', '-', 'http://web/'] }],
              },
            },
          },
        },
      ]);
      const ready = async (): Promise<number> =>
        (await podsOf(cluster, 'shop', 'app=crowd')).filter((pod) => statusOf(pod).containerStatuses?.[0]?.ready === true).length;
      await until('half of the crowd', async () => (await ready()) >= CROWD / 2, 120_000);
      await scale(Math.floor(CROWD / 4)); // while the other half is being made
      await until('some to go', async () => (await ready()) < CROWD / 2, 60_000);
      await scale(CROWD);
      await cluster.rolledOut('deployment', 'shop', 'crowd', 180_000);
      console.log(`${CROWD} pods churned: ${((performance.now() - began) / 1000).toFixed(1)} s`);
      const enrolled = await settled();
      console.log(`${enrolled} enrolled after ${((performance.now() - began) / 1000).toFixed(1)} s`);
      if (CROWD >= 60) console.log(`agent: ${await agentUse()}`);
      expect(enrolled).toBe(CROWD + 2);

      const sums = async (): Promise<string[]> => (await podsOf(cluster, 'shop', 'app=sums')).map((pod) => statusOf(pod).phase);
      await until('the job to end', async () => (await sums()).filter((phase) => phase === 'Succeeded').length === 10, 60_000);
      for (const { metadata } of await podsOf(cluster, 'shop', 'app=sums'))
        expect(await redirectionOf(cluster, 'shop', metadata.name)).toBeUndefined();
      await cluster.api.remove('/apis/apps/v1/namespaces/shop/deployments/crowd');
      await cluster.kubectl('-n', 'shop', 'delete', 'job', 'sums');
      await until('the crowd to be gone', async () => (await podsOf(cluster, 'shop')).length === 2, 120_000);
      expect(await settled()).toBe(2);
    },
    2 * LIMIT_MS,
  );
});

describe('what people get wrong', () => {
  const readyz = (): Promise<string> => node.run(['curl', '-sS', 'http://127.0.0.1:8000/readyz']).then((text) => text.trim());
  const agentLog = async (): Promise<string> => mesh.logs(await mesh.podOn(node.name, 'culvert-node'));

  it(
    'a labelled namespace is deleted with its pods',
    async () => {
      await cluster.objects.namespace('doomed', AMBIENT);
      await cluster.apply([appPod({ namespace: 'doomed', name: 'one' }), appPod({ namespace: 'doomed', name: 'two' })]);
      for (const name of ['one', 'two']) await cluster.podReady('doomed', name);
      await becomes(cluster, 'doomed', ['one', 'two'], 'enabled');
      await cluster.api.remove('/api/v1/namespaces/doomed');
      await until('the namespace to be gone', async () => (await cluster.api.get('/api/v1/namespaces/doomed')) === undefined, 60_000);
      expect(await settled()).toBe(2);
      expect(await readyz()).toBe('ready');
    },
    LIMIT_MS,
  );

  it(
    'a pod of the node’s own network has nothing to be enrolled',
    async () => {
      const pod = appPod({ namespace: 'shop', name: 'host', command: ['sleep', '1000'], spec: { hostNetwork: true } });
      await cluster.apply([pod]);
      await cluster.podReady('shop', 'host');
      expect(await mesh.pod(node.name, 'shop/host')).toMatchObject({
        state: 'not-enrolled',
        datapath: 'none',
        reason: 'host network: it has no network namespace of its own',
      });
      expect(await redirectionOf(cluster, 'shop', 'host')).toBeUndefined();
      await cluster.remove([pod]);
      await cluster.podGone('shop', 'host');
      expect(await settled()).toBe(2);
    },
    LIMIT_MS,
  );

  it(
    'an annotation that is no boolean is named, and counts for nothing',
    async () => {
      const pod = appPod({ namespace: 'shop', name: 'maybe', annotations: { 'ambient.istio.io/dns-capture': 'maybe' } });
      await cluster.apply([pod]);
      await cluster.podReady('shop', 'maybe');
      await becomes(cluster, 'shop', ['maybe'], 'enabled');
      expect((await mesh.pod(node.name, 'shop/maybe')).warnings).toEqual([
        'annotation ambient.istio.io/dns-capture="maybe" is not a boolean and is ignored',
      ]);
      expect(await ask('maybe')).toBe('ok');
      await cluster.remove([pod]);
      await cluster.podGone('shop', 'maybe');
    },
    LIMIT_MS,
  );

  describe('in the network configuration', () => {
    const path = '/etc/cni/net.d/10-pods.conflist';
    const bearing = ['bridge', 'portmap', 'culvert-cni'];
    let whole: { cniVersion: string; name: string; plugins: { type: string }[] };

    beforeAll(() => {
      whole = JSON.parse(readFileSync(node.path(path), 'utf8')) as typeof whole;
    });

    /** A pod that is born now comes up, enrolled. */
    async function birth(name: string): Promise<void> {
      await cluster.podReady('shop', name, 120_000);
      await becomes(cluster, 'shop', [name], 'enabled');
      await cluster.api.remove(`/api/v1/namespaces/shop/pods/${name}`);
      await cluster.podGone('shop', name);
    }

    it(
      'our entry taken out is put back',
      async () => {
        const others = { ...whole, plugins: whole.plugins.filter(({ type }) => type !== 'culvert-cni') };
        expect(others.plugins).toHaveLength(2);
        writeFileSync(node.path(path), JSON.stringify(others, undefined, 2));
        await until('our entry to be back', () => chainOf(node).join() === bearing.join());
        expect(await readyz()).toBe('ready');
        await cluster.apply([appPod({ namespace: 'shop', name: 'after-edit' })]);
        await birth('after-edit');
      },
      LIMIT_MS,
    );

    it.each([
      ['cut off', (text: string) => text.slice(0, text.length / 2)],
      ['not JSON', () => 'plugins:\n- type: bridge\n'],
    ])(
      'a file %s is named, left as it is, and joined again when it is mended',
      async (what, spoil) => {
        const broken = spoil(JSON.stringify(whole, undefined, 2));
        writeFileSync(node.path(path), broken);
        await until('the agent to say so', async () => (await readyz()).startsWith('not ready: '));
        await cluster.apply([appPod({ namespace: 'shop', name: 'meanwhile' })]);
        console.log(`${what}: ${await readyz()}`);
        expect(await readyz()).toMatch(/there is no network configuration in \/etc\/cni\/net\.d yet; 10-pods\.conflist: it is not JSON/);
        expect(await agentLog()).toMatch(/"file":"10-pods.conflist".*skipped as runtimes do/);
        expect(readFileSync(node.path(path), 'utf8')).toBe(broken);
        expect(await ask('client')).toBe('ok'); // who is in the mesh feels nothing
        writeFileSync(node.path(path), JSON.stringify({ ...whole, plugins: whole.plugins.slice(0, 2) }, undefined, 2));
        await until('our entry to be back', () => chainOf(node).join() === bearing.join());
        await until('the agent to be ready', async () => (await readyz()) === 'ready');
        await birth('meanwhile');
      },
      LIMIT_MS,
    );
  });
});

describe('the end of the mesh', () => {
  const ends = ['client', 'web'];
  const probesFailed = async (): Promise<string[]> =>
    (await eventsOf(cluster, 'shop', 'web')).filter(({ reason }) => reason === 'Unhealthy').map(({ message }) => message);
  const selector = (value: string | null): Promise<unknown> =>
    cluster.api.patch(
      `/apis/apps/v1/namespaces/${MESH_NAMESPACE}/daemonsets/culvert-node`,
      { spec: { template: { spec: { nodeSelector: { 'culvert.dev/leave': value } } } } },
      'merge',
    );
  /** Files that the tunnel has while it runs. */
  const tunnels = '/run/culvert/ztunnel-admin.sock';
  let plain: string;
  let before: Record<string, string>;
  let failed: string[];

  beforeAll(async () => {
    await cluster.objects.namespace('legacy');
    await cluster.apply([appPod({ namespace: 'legacy', name: 'old' })]);
    await cluster.podReady('legacy', 'old');
    plain = await netnsSettings(node, 'legacy', 'old');
    expect(await netnsSettings(node, 'shop', 'web')).not.toBe(plain);
    before = await lives(cluster, 'shop');
    failed = await probesFailed();
  }, LIMIT_MS);

  /** Nothing on the host, nothing in pods, and they go on as they are. */
  async function nothingLeft(except: readonly string[]): Promise<void> {
    await until('nothing to be left on the node', () => hostLeftovers(node).every((file) => except.includes(file))).catch(
      (error: unknown) => {
        throw new Error(`${(error as Error).message}: ${hostLeftovers(node).join(', ')}`);
      },
    );
    expect(chainOf(node)).toEqual(['bridge', 'portmap']);
    for (const pod of ends) expect(await netnsSettings(node, 'shop', pod)).toBe(plain);
    expect(await ask('client')).toBe('ok');
    expect(await lives(cluster, 'shop')).toEqual(before);
    expect(await probesFailed()).toEqual(failed);
  }

  it(
    'agents that leave take their pods out of it, and everything off the node',
    async () => {
      await selector('yes');
      await until('the agent to be gone', async () => (await podsOf(cluster, MESH_NAMESPACE, 'app=culvert-node')).length === 0, 60_000);
      await becomes(cluster, 'shop', ends, undefined);
      await nothingLeft([tunnels]);
    },
    LIMIT_MS,
  );

  it(
    'and when they come back, everything is as it was',
    async () => {
      await selector(null);
      await mesh.ready();
      await becomes(cluster, 'shop', ends, 'enabled');
      expect(await settled()).toBe(2);
      expect(await ask('client')).toBe('ok');
      expect(await lives(cluster, 'shop')).toEqual(before);
      expect(await probesFailed()).toEqual(failed);
    },
    LIMIT_MS,
  );

  it(
    'helm uninstall has them leave first, and leaves nothing, either',
    async () => {
      await mesh.uninstall();
      expect(await podsOf(cluster, MESH_NAMESPACE, 'app=culvert-node')).toEqual([]);
      for (const pod of ends) expect(await redirectionOf(cluster, 'shop', pod)).toBeUndefined();
      await until('its pods to be gone', async () => (await podsOf(cluster, MESH_NAMESPACE)).length === 0, 90_000);
      await nothingLeft([]);
      expect(await cluster.kubectl('get', '-A', '-o', 'name', 'jobs,serviceaccounts,roles,rolebindings')).not.toContain('culvert');
    },
    LIMIT_MS,
  );
});

/** Memory, and CPU while nothing happens. */
async function agentUse(): Promise<string> {
  const pid = (await node.run(['pgrep', '-f', '^culvert agent'])).trim();
  const memory = /VmRSS:\s+(\d+) kB/.exec(await node.run(['cat', `/proc/${pid}/status`]))?.[1];
  const ticks = async (): Promise<number> => {
    const fields = (await node.run(['cat', `/proc/${pid}/stat`])).split(') ')[1]!.split(' ');
    return Number(fields[11]) + Number(fields[12]);
  };
  const [start, began] = [await ticks(), performance.now()];
  await new Promise((resolve) => setTimeout(resolve, 5000));
  const used = ((await ticks()) - start) / 100 / ((performance.now() - began) / 1000);
  return `${Math.round(Number(memory) / 1024)} MB, ${(100 * used).toFixed(1)} % of a CPU at rest`;
}
