/** A node whose agent does not come up, by an upgrade to an image that is not there: who starts, who waits, and what people read. */
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { appPod, appService } from '../../support/cluster/app.ts';
import { startCluster, type Cluster } from '../../support/cluster/cluster.ts';
import { inStep } from '../../support/cluster/in-step.ts';
import { chainOf } from '../../support/cluster/inventory.ts';
import { Mesh, MESH_IMAGE, MESH_NAMESPACE } from '../../support/cluster/mesh.ts';
import type { ClusterNode } from '../../support/cluster/node.ts';
import { becomes, eventsOf, podsOf, statusOf } from '../../support/cluster/pods.ts';
import { reboot } from '../../support/cluster/reboot.ts';
import { closeWithoutTrace } from '../../support/cluster/traces.ts';
import { until } from '../../support/kubernetes/until.ts';

const LIMIT_MS = 240_000;
/** kubelet learns of STATUS every five seconds, and tells the node's condition as often. */
const STATUS_SEEN_MS = 12_000;
const AMBIENT = { 'istio.io/dataplane-mode': 'ambient' };

let cluster: Cluster;
let mesh: Mesh;
let node: ClusterNode;

beforeAll(async () => {
  cluster = await startCluster({ coredns: true });
  node = cluster.nodes[0]!;
  mesh = await Mesh.prepare(cluster);
  await mesh.install();
  await cluster.objects.namespace('shop', AMBIENT);
  await cluster.objects.namespace('legacy');
  await cluster.apply([
    appPod({ namespace: 'shop', name: 'client' }),
    appPod({ namespace: 'shop', name: 'web' }),
    appService('shop', 'web', { app: 'web' }),
    appPod({ namespace: 'legacy', name: 'old' }),
  ]);
  for (const name of ['client', 'web']) await cluster.podReady('shop', name);
  await cluster.podReady('legacy', 'old');
}, LIMIT_MS);
afterAll(() => closeWithoutTrace(cluster), LIMIT_MS);

const agentImage = (image: string): Promise<string> =>
  cluster.kubectl('-n', MESH_NAMESPACE, 'set', 'image', 'daemonset/culvert-node', `agent=${image}`);
const agentRuns = async (): Promise<boolean> => (await node.exec(['pgrep', '-f', '^culvert agent'])).code === 0;
const ask = (from: string): Promise<string> =>
  cluster.kubectl('exec', '-n', 'shop', from, '--', 'wget', '-q', '-O', '-', 'http://web/').then((text) => text.trim());

async function agentGoes(): Promise<void> {
  await agentImage('culvert.test/nowhere:1');
  await until('the agent to be gone', async () => !(await agentRuns()), 60_000);
}

async function agentComes(): Promise<void> {
  await agentImage(MESH_IMAGE);
  await cluster.rolledOut('daemonset', MESH_NAMESPACE, 'culvert-node', 120_000);
}

/** Pod, cause and remedy, where people look for them. */
async function refusal(pod: string): Promise<string> {
  let message: string | undefined;
  await until(
    `an event of pod shop/${pod}`,
    async () => {
      const events = await eventsOf(cluster, 'shop', pod);
      message = events.findLast((event) => event.reason === 'FailedCreatePodSandBox' && event.message.includes('culvert'))?.message;
      return message !== undefined;
    },
    60_000,
  );
  return message!;
}

const sentence = (pod: string): RegExp =>
  new RegExp(
    `add pod shop/${pod}: culvert agent does not answer \\(\\S+/cni.sock: connect: (ENOENT|ECONNREFUSED)\\), ` +
      'and namespace shop is enrolled in the mesh; start the culvert agent of this node; the runtime tries again by itself',
  );

/** Containers of this app that run and were not there before. */
async function anotherRuns(app: string, before: ReadonlySet<string>): Promise<void> {
  const running = async (): Promise<boolean> =>
    (await podsOf(cluster, MESH_NAMESPACE, `app=${app}`)).some(
      (pod) => statusOf(pod).phase === 'Running' && !before.has(statusOf(pod).containerStatuses?.[0]?.containerID ?? ''),
    );
  await until(`another ${app} to run`, running, 90_000).catch(async (error: unknown) => {
    throw new Error(`${(error as Error).message}; ${await cluster.kubectl('-n', MESH_NAMESPACE, 'describe', 'pods', '-l', `app=${app}`)}`);
  });
}

async function containersOf(app: string): Promise<Set<string>> {
  return new Set(
    (await podsOf(cluster, MESH_NAMESPACE, `app=${app}`)).map((pod) => statusOf(pod).containerStatuses?.[0]?.containerID ?? ''),
  );
}

describe('while the agent is away', () => {
  beforeAll(agentGoes, LIMIT_MS);

  it('pods of the mesh go on', async () => {
    expect(await ask('client')).toBe('ok');
    await cluster.nodeReady(node);
  });

  it(
    'a pod that is to be enrolled waits, and its event names pod, cause and remedy',
    async () => {
      await cluster.apply([appPod({ namespace: 'shop', name: 'late' })]);
      const message = await refusal('late');
      console.log(message);
      expect(message).toMatch(sentence('late'));
    },
    LIMIT_MS,
  );

  it(
    'a pod of another namespace starts',
    async () => {
      await cluster.apply([appPod({ namespace: 'legacy', name: 'new' })]);
      await cluster.podReady('legacy', 'new');
    },
    LIMIT_MS,
  );

  it(
    'so do the mesh’s own',
    async () => {
      const before = await containersOf('ztunnel');
      await cluster.api.remove(`/api/v1/namespaces/${MESH_NAMESPACE}/pods/${await mesh.podOn(node.name, 'ztunnel')}`);
      await anotherRuns('ztunnel', before);
    },
    LIMIT_MS,
  );

  it(
    'all of it holds after a restart of the node',
    async () => {
      const [tunnel, control] = [await containersOf('ztunnel'), await containersOf('culvert-control')];
      await reboot(node);
      await cluster.nodeReady(node);
      expect(chainOf(node)).toContain('culvert-cni');
      await anotherRuns('ztunnel', tunnel);
      await anotherRuns('culvert-control', control);
      for (const name of ['old', 'new']) {
        await until(
          `legacy/${name} to be started again`,
          async () => (statusOf((await podsOf(cluster, 'legacy', `app=${name}`))[0]!).containerStatuses?.[0]?.restartCount ?? 0) > 0,
          60_000,
        );
        await cluster.podReady('legacy', name);
      }
      for (const name of ['client', 'web', 'late']) expect(await refusal(name)).toMatch(sentence(name));
      expect(await agentRuns()).toBe(false);
    },
    LIMIT_MS,
  );

  it(
    'and when it is back, everybody comes up',
    async () => {
      const began = performance.now();
      await agentComes();
      for (const name of ['client', 'web', 'late']) await cluster.podReady('shop', name, 120_000);
      console.log(`agent back, all ready: ${((performance.now() - began) / 1000).toFixed(1)} s`);
      await becomes(cluster, 'shop', ['client', 'web', 'late'], 'enabled');
      expect(await inStep({ cluster, mesh, node, namespaces: ['shop'] })).toBe(3);
      await until('names to be resolved again', async () => (await ask('client').catch(() => '')) === 'ok', 60_000);
    },
    LIMIT_MS,
  );
});

describe('with statusPolicy agent-ready', () => {
  it(
    'containerd asks the plugin, and the node is not ready while the agent is away',
    async () => {
      await mesh.upgrade({ statusPolicy: 'agent-ready' });
      await cluster.nodeReady(node);
      await agentGoes();
      await cluster.nodeReady(node, false);
      const object = await cluster.api.get(`/api/v1/nodes/${node.name}`);
      const { conditions } = object!['status'] as { conditions: { type: string; message: string }[] };
      expect(conditions.find(({ type }) => type === 'Ready')?.message).toMatch(
        /no pod can join the mesh now: culvert agent does not answer/,
      );
      expect(await ask('client')).toBe('ok');
      await agentComes();
      await cluster.nodeReady(node);
    },
    LIMIT_MS,
  );

  it(
    'a tunnel that was away comes back: it is a pod that needs a network, too',
    async () => {
      const selector = (value: string | null): Promise<unknown> =>
        cluster.api.patch(
          `/apis/apps/v1/namespaces/${MESH_NAMESPACE}/daemonsets/ztunnel`,
          { spec: { template: { spec: { nodeSelector: { 'culvert.dev/away': value } } } } },
          'merge',
        );
      await selector('yes');
      await until('the tunnel to be gone', async () => (await podsOf(cluster, MESH_NAMESPACE, 'app=ztunnel')).length === 0, 60_000);
      await sleep(STATUS_SEEN_MS);
      await selector(null);
      await mesh.ready();
      await cluster.nodeReady(node);
      await until('client to be served again', async () => (await ask('client').catch(() => '')) === 'ok');
    },
    LIMIT_MS,
  );
});
