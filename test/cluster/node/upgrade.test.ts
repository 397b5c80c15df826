/** What operators and nodes do to a mesh that is in use: no request of its pods fails by it, and no pod is restarted. */
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { PodStatus } from '../../../src/agent/api.ts';
import { appPod } from '../../support/cluster/app.ts';
import { startCluster, type Cluster } from '../../support/cluster/cluster.ts';
import { Mesh, MESH_NAMESPACE, type Access } from '../../support/cluster/mesh.ts';
import type { ClusterNode } from '../../support/cluster/node.ts';
import { becomes, labelNamespace, lives, podsOf, statusOf } from '../../support/cluster/pods.ts';
import { Traffic } from '../../support/cluster/traffic.ts';
import type { Totals } from '../../support/cluster/traffic/totals.ts';
import { closeWithoutTrace } from '../../support/cluster/traces.ts';
import { until } from '../../support/kubernetes/until.ts';

/** How long the API server is away: a minute where somebody asks for it. */
const AWAY_MS = 1000 * Number(process.env['CULVERT_TEST_API_AWAY_S'] ?? 15);
const LIMIT_MS = 240_000;
/** Tunnels drain for seven seconds. */
const VALUES = { tunnel: { builtin: { terminationGracePeriodSeconds: 12 } } };
const PODS = ['client', 'web-1', 'web-2'];

let cluster: Cluster;
let mesh: Mesh;
let traffic: Traffic;
let node1: ClusterNode;
let born = 0;

beforeAll(async () => {
  cluster = await startCluster({ nodes: 2, coredns: true });
  node1 = cluster.nodes[0]!;
  mesh = await Mesh.prepare(cluster);
  await mesh.install(VALUES);
  for (const namespace of ['shop', 'births']) await cluster.objects.namespace(namespace, { 'istio.io/dataplane-mode': 'ambient' });
  traffic = await Traffic.start(cluster, { namespace: 'shop' });
}, LIMIT_MS);
afterAll(() => closeWithoutTrace(cluster), LIMIT_MS);
beforeEach(() => becomes(cluster, 'shop', PODS, 'enabled'));

/**
 * Through all of it requests were answered, all of them by way of the tunnel, and pods lived on.
 * @param cuts how often the connection that is held for ever may be cut, and the request on it be lost; default never
 */
async function undisturbed(what: string, act: () => Promise<unknown>, cuts = 0): Promise<Totals> {
  const [pods, before, began] = [await lives(cluster, 'shop'), await mesh.pod('node1', 'shop/client'), performance.now()];
  const seen = await traffic.during(act);
  const after = await mesh.pod('node1', 'shop/client');
  console.log(`${what}: ${((performance.now() - began) / 1000).toFixed(1)} s, ${JSON.stringify(seen)}`);
  expect(seen.failures.filter(({ kind }) => cuts === 0 || kind !== 'held')).toEqual([]);
  expect([seen.fresh.failed, seen.renewed.failed]).toEqual([0, 0]);
  expect(seen.held.failed).toBeLessThanOrEqual(cuts);
  expect(seen.held.connections).toBeLessThanOrEqual(cuts);
  expect(after.counters.outboundRedirected - before.counters.outboundRedirected).toBeGreaterThanOrEqual(seen.fresh.ok);
  expect(passed(after)).toEqual(passed(before));
  expect(await lives(cluster, 'shop')).toEqual(pods);
  return seen;
}

/** Connections past the tunnel, but for those that it opens itself. */
function passed({ counters }: PodStatus): Record<string, number> {
  return { ...counters.outboundPassed, tunnel: 0 };
}

const names = async (app: string): Promise<string[]> =>
  (await podsOf(cluster, MESH_NAMESPACE, `app=${app}`)).map(({ metadata }) => metadata.name).toSorted();

/** Are labels of running pods carried out? */
async function obeys(): Promise<void> {
  const began = performance.now();
  await labelNamespace(cluster, 'shop', null);
  await becomes(cluster, 'shop', PODS, undefined);
  await labelNamespace(cluster, 'shop', 'ambient');
  await becomes(cluster, 'shop', PODS, 'enabled');
  console.log(`out and in again by label: ${((performance.now() - began) / 1000).toFixed(1)} s`);
}

/** And are pods enrolled at birth? */
async function carriesOut(): Promise<void> {
  await obeys();
  const name = `born-${++born}`;
  await cluster.apply([appPod({ namespace: 'births', name, node: 'node1' })]);
  await cluster.podReady('births', name);
  await becomes(cluster, 'births', [name], 'enabled');
}

/** A node counts as ready for a while also when kubelet does not know its pods yet, which it asks the API server for. */
async function podsKnown(): Promise<void> {
  for (const { name } of cluster.nodes)
    await until(`kubelet of ${name} to know its pods`, () =>
      mesh.culvert(name, 'version').then(
        () => true,
        () => false,
      ),
    );
}

describe('operators', () => {
  it(
    'replace the agents',
    async () => {
      const before = await names('culvert-node');
      await undisturbed('agents replaced', () => mesh.restart('daemonset', 'culvert-node'));
      expect(await names('culvert-node')).not.toEqual(expect.arrayContaining(before));
      await carriesOut();
    },
    LIMIT_MS,
  );

  it(
    'replace the tunnels, new ones before the old ones end',
    async () => {
      // Each of the two tunnels waits for open connections until its drain deadline.
      await undisturbed('tunnels replaced', () => mesh.restart('daemonset', 'ztunnel'), cluster.nodes.length);
      await carriesOut();
    },
    LIMIT_MS,
  );

  it(
    'change a setting by helm, which replaces the parts that have it and no others',
    async () => {
      const [agents, tunnels] = [await names('culvert-node'), await names('ztunnel')];
      const metrics = (): Promise<string> => node1.run(['curl', '-sS', 'http://127.0.0.1:15014/metrics']);
      expect(await metrics()).not.toContain('culvert_pod_connections_total');
      await undisturbed('setting changed', () => mesh.upgrade({ ...VALUES, podMetrics: true }));
      expect(await names('culvert-node')).not.toEqual(expect.arrayContaining(agents));
      expect(await names('ztunnel')).toEqual(tunnels);
      expect(await metrics()).toMatch(/culvert_pod_connections_total\{.*pod="client"/);
      await carriesOut();
    },
    LIMIT_MS,
  );

  it(
    'restart the control plane of the mesh',
    async () => {
      await undisturbed('control plane replaced', () => mesh.restart('deployment', 'culvert-control'));
      await carriesOut();
    },
    LIMIT_MS,
  );
});

describe('an agent', () => {
  it(
    'that is killed is started again, and finds everything in place',
    async () => {
      const name = await mesh.podOn('node1', 'culvert-node');
      const restarts = async (): Promise<number> => {
        const pod = await cluster.api.get(`/api/v1/namespaces/${MESH_NAMESPACE}/pods/${name}`);
        return statusOf(pod!).containerStatuses?.[0]?.restartCount ?? 0;
      };
      const before = await restarts();
      await undisturbed('agent killed', async () => {
        await node1.run(['pkill', '-KILL', '-f', '^culvert agent']);
        await until('it to be started again', async () => (await restarts()) > before);
        await cluster.podReady(MESH_NAMESPACE, name);
      });
      await carriesOut();
    },
    LIMIT_MS,
  );
});

describe('parts of Kubernetes', () => {
  it(
    'an API server that goes away and comes back',
    async () => {
      const agents = await names('culvert-node');
      const ready = (): Promise<string> =>
        node1.run(['curl', '-sS', '-o', '/dev/null', '-w', '%{http_code}', 'http://127.0.0.1:8000/readyz']);
      const states: string[] = [];
      const pods = await lives(cluster, 'shop');
      const [{ counters }, began] = [await mesh.pod('node1', 'shop/client'), performance.now()];
      const seen = await traffic.during(async () => {
        await cluster.killApiServer();
        while (performance.now() - began < AWAY_MS) {
          states.push(await ready());
          await sleep(1000);
        }
        await cluster.restartApiServer();
      });
      console.log(`API server away: ${((performance.now() - began) / 1000).toFixed(1)} s, ${JSON.stringify(seen)}`);
      expect(seen).toMatchObject({ failures: [], held: { connections: 0 } });
      expect(new Set(states)).toEqual(new Set(['200']));
      await obeys(); // kubelet, which births need, takes half a minute to look again
      expect(await names('culvert-node')).toEqual(agents);
      const after = await mesh.pod('node1', 'shop/client');
      expect(after.counters.outboundRedirected - counters.outboundRedirected).toBeGreaterThanOrEqual(seen.fresh.ok);
      expect(await lives(cluster, 'shop')).toEqual(pods);
      const log = await mesh.logs(await mesh.podOn('node1', 'culvert-node'));
      expect(log).toContain('the Kubernetes API answers again');
    },
    LIMIT_MS,
  );

  it(
    'kubelet restarted',
    async () => {
      await undisturbed('kubelets restarted', async () => {
        for (const node of cluster.nodes) {
          await node.kill('kubelet');
          await node.start('kubelet');
        }
        for (const node of cluster.nodes) await cluster.nodeReady(node);
        await podsKnown();
      });
      await carriesOut();
    },
    LIMIT_MS,
  );

  it(
    'containerd restarted',
    async () => {
      await undisturbed('containerds restarted', async () => {
        for (const node of cluster.nodes) {
          await node.kill('containerd');
          await node.start('containerd');
        }
        await podsKnown();
      });
      for (const node of cluster.nodes) await cluster.nodeReady(node);
      await carriesOut();
    },
    LIMIT_MS,
  );
});

it('all of it goes from tunnel to tunnel', async () => {
  const began = Date.now();
  const seen = await traffic.during(() => Promise.resolve());
  expect(seen.failures).toEqual([]);
  const mine = (access: Access): boolean => access['src.workload'] === 'client' && Date.parse(access.time) > began;
  const out = (await mesh.accesses('node1')).filter((access) => access.direction === 'outbound' && mine(access));
  const into = (await mesh.accesses('node2')).filter((access) => access.direction === 'inbound' && mine(access));
  expect(out.length).toBeGreaterThanOrEqual(300);
  expect(out.filter((access) => access['dst.hbone_addr'] === undefined || !access['dst.addr'].endsWith(':15008'))).toEqual([]);
  expect(into.length).toBeGreaterThanOrEqual(300);
  expect(new Set(into.map((access) => access['src.identity']))).toEqual(new Set(['spiffe://cluster.local/ns/shop/sa/default']));
});
