/** Pods of a real cluster in the mesh: those that were there before it, those born into it, and those that come and go by label. */
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { REDIRECTION_ANNOTATION } from '../../../src/enrol/policy.ts';
import type { KubeObject } from '../../../src/kubernetes/api.ts';
import { appPod, appService } from '../../support/cluster/app.ts';
import { startCluster, type Cluster } from '../../support/cluster/cluster.ts';
import { Load } from '../../support/cluster/load.ts';
import { Mesh } from '../../support/cluster/mesh.ts';
import { labelNamespace, podsOf, redirectionOf, statusOf } from '../../support/cluster/pods.ts';
import { until } from '../../support/kubernetes/until.ts';

const AMBIENT = { 'istio.io/dataplane-mode': 'ambient' };
const BUSYBOX = join(import.meta.dirname, '../../../build/test/debian/busybox');
/** More of them for figures: CULVERT_TEST_TOGGLES. */
const TOGGLES = Number(process.env['CULVERT_TEST_TOGGLES'] ?? 5);
/** Each kind of probe, every second, the first failure counts. */
const PROBES = {
  readinessProbe: { httpGet: { path: '/', port: 8080 }, periodSeconds: 1, timeoutSeconds: 10, failureThreshold: 1 },
  livenessProbe: { tcpSocket: { port: 8080 }, periodSeconds: 1, timeoutSeconds: 10, failureThreshold: 1 },
};
const EXEC_PROBE = {
  livenessProbe: { exec: { command: ['true'] }, periodSeconds: 1, timeoutSeconds: 10, failureThreshold: 1 },
};

let cluster: Cluster;
let mesh: Mesh;

beforeAll(async () => {
  cluster = await startCluster({ nodes: 2, dualStack: true, coredns: true });
  mesh = await Mesh.prepare(cluster);
}, 180_000);
afterAll(() => cluster.close());

const pods = (namespace: string): Promise<KubeObject[]> => podsOf(cluster, namespace);

async function pod(namespace: string, name: string): Promise<KubeObject> {
  return (await cluster.api.get(`/api/v1/namespaces/${namespace}/pods/${name}`))!;
}

const redirection = ({ metadata }: KubeObject): string | undefined => metadata.annotations?.[REDIRECTION_ANNOTATION];

/** Resolves when every pod of the namespace says so. */
function all(namespace: string, annotation: 'enabled' | undefined): Promise<void> {
  const what = `pods of ${namespace} to be ${annotation ?? 'without annotation'}`;
  return until(what, async () => (await pods(namespace)).every((each) => redirection(each) === annotation));
}

/** Probes that failed, as kubelet tells it, and containers that it restarted. */
async function troubles(namespace: string): Promise<string[]> {
  const events = (await cluster.api.list(`/api/v1/namespaces/${namespace}/events`)).items as (KubeObject & {
    reason: string;
    message: string;
    involvedObject: { name: string };
  })[];
  const unhealthy = events.filter(({ reason }) => reason === 'Unhealthy' || reason === 'Killing');
  const restarted = (await pods(namespace)).filter((each) =>
    statusOf(each).containerStatuses?.some(({ restartCount }) => restartCount > 0),
  );
  return [
    ...unhealthy.map(({ involvedObject, reason, message }) => `${involvedObject.name}: ${reason}: ${message}`),
    ...restarted.map(({ metadata }) => `${metadata.name} was restarted`),
  ];
}

interface Access {
  direction: string;
  'src.workload'?: string;
  'src.identity'?: string;
  'dst.workload'?: string;
  'dst.identity'?: string;
  'dst.addr': string;
}

/** Inbound connections over mTLS to this workload, by whom. */
async function inboundFrom(workload: string): Promise<Access[]> {
  const logs = await Promise.all(cluster.nodes.map(async ({ name }) => mesh.logs(await mesh.podOn(name, 'ztunnel'))));
  return logs
    .flatMap((text) => text.split('\n'))
    .filter((line) => line.includes('"scope":"access"'))
    .map((line) => JSON.parse(line) as Access)
    .filter((access) => access.direction === 'inbound' && access['dst.workload'] === workload && access['src.identity'] !== undefined);
}

const ask = (namespace: string, from: string, url: string): Promise<string> =>
  cluster.kubectl('exec', '-n', namespace, from, '--', 'wget', '-q', '-O', '-', url).then((text) => text.trim());

/** From a node's own network, as people outside reach it. */
const askFromNode2 = (url: string): Promise<string> =>
  cluster.nodes[1]!.run([BUSYBOX, 'wget', '-q', '-O', '-', url]).then((text) => text.trim());

const ips = (object: KubeObject): string[] => (object['status'] as { podIPs: { ip: string }[] }).podIPs.map(({ ip }) => ip);

describe('pods that were labelled before the mesh was installed', () => {
  it('join it without losing a probe or a request', async () => {
    await cluster.objects.namespace('before', AMBIENT);
    await cluster.apply([
      appPod({ namespace: 'before', name: 'web', node: 'node1', container: PROBES }),
      appPod({ namespace: 'before', name: 'exec', node: 'node2', container: EXEC_PROBE }),
      appService('before', 'web', { app: 'web' }),
    ]);
    const web = await cluster.podReady('before', 'web');
    await cluster.podReady('before', 'exec');
    const [v4] = ips(web);
    // a node's own connections to a pod are what kubelet's probes are
    const probe = { namespace: 'default', node: 'node1', url: `http://${v4}:8080/`, spec: { hostNetwork: true } };
    const node = await Load.start(cluster, { ...probe, name: 'node-to-pod' });
    const client = await Load.start(cluster, { namespace: 'before', name: 'client', node: 'node2', url: 'http://web/' });

    await mesh.install();
    await all('before', 'enabled');
    await node.rising();
    await client.rising();

    expect(await troubles('before')).toEqual([]);
    expect(await node.tally(), await node.errors()).toMatchObject({ failed: 0 });
    expect(await client.tally(), await client.errors()).toMatchObject({ failed: 0 });
    await until('the client to come with its identity', async () => (await inboundFrom('web')).length > 0);
  }, 180_000);
});

describe('pods of a labelled namespace', () => {
  beforeAll(async () => {
    await cluster.objects.namespace('shop', AMBIENT);
    await cluster.apply([
      appPod({ namespace: 'shop', name: 'web-1', node: 'node1', labels: { app: 'web' }, container: PROBES }),
      appPod({ namespace: 'shop', name: 'web-2', node: 'node2', labels: { app: 'web' }, container: PROBES }),
      appPod({
        ...{ namespace: 'shop', name: 'host-port', node: 'node1' },
        container: { ports: [{ containerPort: 8080, hostPort: 18080 }] },
      }),
      appPod({ namespace: 'shop', name: 'client', node: 'node1' }),
      appService('shop', 'web', { app: 'web' }, { ipFamilyPolicy: 'RequireDualStack' }),
      appService('shop', 'node-port', { app: 'web' }, { type: 'NodePort', ports: [{ port: 80, targetPort: 8080, nodePort: 30080 }] }),
      appService('shop', 'headless', { app: 'web' }, { clusterIP: 'None' }),
    ]);
    for (const name of ['web-1', 'web-2', 'host-port', 'client']) await cluster.podReady('shop', name);
  });

  it('are enrolled at birth, by the runtime’s own call', async () => {
    await all('shop', 'enabled');
    const listed = (await mesh.culvert('node1', 'pods')) as { namespace: string; name: string; state: string; datapath: string }[];
    const mine = listed.filter(({ namespace }) => namespace === 'shop');
    expect(mine.map(({ name, state, datapath }) => [name, state, datapath])).toEqual([
      ['client', 'enrolled', 'active'],
      ['host-port', 'enrolled', 'active'],
      ['web-1', 'enrolled', 'active'],
    ]);
  });

  it('are reached by ClusterIP of both families, and by name, through the mesh', async () => {
    const service = await cluster.api.get('/api/v1/namespaces/shop/services/web');
    const { clusterIPs } = service!['spec'] as { clusterIPs: string[] };
    const [v4, v6] = clusterIPs;
    const seen = new Set<string>();
    for (const url of [`http://${v4}/`, `http://[${v6}]/`, 'http://web/', 'http://web.shop.svc.cluster.local/']) {
      expect(await ask('shop', 'client', url)).toBe('ok');
    }
    for (let i = 0; i < 20 && seen.size < 2; i++) seen.add((await ask('shop', 'client', 'http://web/cgi-bin/peer')).split(' ')[0]!);
    expect([...seen].toSorted()).toEqual(['web-1', 'web-2']);
    for (const workload of ['web-1', 'web-2']) {
      await until(`${workload} to be reached by an identity`, async () =>
        (await inboundFrom(workload)).some((access) => access['src.identity'] === 'spiffe://cluster.local/ns/shop/sa/default'),
      );
    }
  });

  it('are reached by the name of a headless service, by NodePort and by hostPort', async () => {
    expect(await ask('shop', 'client', 'http://headless:8080/')).toBe('ok');
    const [node1] = cluster.nodes;
    expect(await askFromNode2(`http://${node1!.ip}:30080/`)).toBe('ok');
    expect(await askFromNode2(`http://${node1!.ip}:18080/`)).toBe('ok');
  });

  it('see the client’s own address', async () => {
    const client = ips(await pod('shop', 'client'));
    const [, address = ''] = (await ask('shop', 'client', 'http://web/cgi-bin/peer')).split(' ');
    expect(client).toContain(address.replace(/^\[|\]$/g, ''));
  });

  it('may be those of a Job, which leave when they have ended', async () => {
    const template = appPod({
      ...{ namespace: 'shop', name: 'once' },
      command: ['wget', '-q', '-O', '-', 'http://web/'],
      spec: { restartPolicy: 'Never' },
    });
    const spec = { template: { metadata: { labels: { app: 'once' } }, spec: template['spec'] } };
    await cluster.apply([{ apiVersion: 'batch/v1', kind: 'Job', metadata: { namespace: 'shop', name: 'once' }, spec }]);
    const ended = async (): Promise<KubeObject[]> =>
      (await pods('shop')).filter((each) => each.metadata.labels?.['app'] === 'once' && statusOf(each).phase === 'Succeeded');
    await until('the job to have ended', async () => (await ended()).length > 0, 60_000);
    const [job] = await ended();
    expect(await cluster.kubectl('logs', '-n', 'shop', job!.metadata.name)).toBe('ok\n');
    await until('its pod to have left', async () => (await redirectionOf(cluster, 'shop', job!.metadata.name)) === undefined);
    await cluster.kubectl('-n', 'shop', 'delete', 'job', 'once');
  }, 90_000);

  it('come and go by label, and lose no probe and no request', async () => {
    const [v4, v6] = ips(await pod('shop', 'web-1'));
    const load = await Load.start(cluster, { namespace: 'shop', name: 'load', node: 'node2', url: 'http://web/' });
    const host = { namespace: 'default', node: 'node1', spec: { hostNetwork: true } };
    const probes = await Promise.all([
      Load.start(cluster, { ...host, name: 'probe-v4', url: `http://${v4}:8080/` }),
      Load.start(cluster, { ...host, name: 'probe-v6', url: `http://[${v6}]:8080/` }),
    ]);
    const joined: number[] = [];
    for (let round = 0; round < TOGGLES; round++) {
      await labelNamespace(cluster, 'shop', null);
      await all('shop', undefined);
      await load.rising();
      const called = performance.now();
      await labelNamespace(cluster, 'shop', 'ambient');
      while ((await redirectionOf(cluster, 'shop', 'web-1')) !== 'enabled')
        if (performance.now() - called > 30_000) throw new Error('not enrolled');
      joined.push(Math.round(performance.now() - called));
      await all('shop', 'enabled');
      await load.rising();
    }
    if (process.env['CULVERT_TEST_TOGGLES'] !== undefined)
      console.log(`ms from label to annotation: ${joined.toSorted((a, b) => a - b).join(' ')}`);
    for (const each of [load, ...probes]) {
      await each.rising();
      expect(await each.tally(), await each.errors()).toMatchObject({ failed: 0 });
    }
    expect(await troubles('shop')).toEqual([]);
  }, 300_000);
});
