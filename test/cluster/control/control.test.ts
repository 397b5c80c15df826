/** Control as a process on a real API server: what tunnels hear of it, and what its death and its replicas mean to them. */
import { X509Certificate } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { identityOf } from '../../../src/identity/spiffe.ts';
import { obtainCertificate } from '../../../src/tunnel/workload-certificate.ts';
import { startApiServer, type ApiServer } from '../../support/apiserver.ts';
import type { RunningFeed } from '../../support/control-plane/feed.ts';
import { installControl, NAMESPACE, startControl, type ControlProcess } from '../../support/control-process.ts';
import { until } from '../../support/kubernetes/until.ts';
import { createNode, mountRoots, type TestNode } from '../../support/node.ts';
import { startRelay, type Relay } from '../../support/relay.ts';

const DAY_MS = 24 * 3600_000;
/** A lead that changes within seconds. */
const FLAGS = ['--lease-duration-ms', '4000'];
const POLICIES = '/apis/security.istio.io/v1/namespaces/shop';

let cluster: ApiServer;
let control: ControlProcess;
let other: ControlProcess;
let relay: Relay;
let nodeA: TestNode;
let feed: RunningFeed;

beforeAll(async () => {
  cluster = await startApiServer();
  const kubeconfig = await installControl(cluster);
  await cluster.createNamespace('shop', { 'istio.io/dataplane-mode': 'ambient' });
  for (const account of ['web', 'db']) await cluster.objects.serviceAccount('shop', account);
  nodeA = await createNode(cluster, 'node-a', '10.0.1.2');
  await createNode(cluster, 'node-b', '10.0.2.2');
  control = await startControl(cluster, kubeconfig, 'control-1', FLAGS);
  other = await startControl(cluster, kubeconfig, 'control-2', FLAGS);
  await until('the roots to be in every namespace', async () => (await mountRoots(cluster, 'shop')) && mountRoots(cluster, NAMESPACE));
  relay = await startRelay([control.port]);
  feed = nodeA.feed(relay.port);
  await feed.until('the first sync', () => feed.synced());
});

afterAll(async () => {
  feed.close();
  relay.close();
  await Promise.all([control.kill(), other.kill()]);
  await cluster.close();
});

/** Never two; for a moment it may be none. */
async function oneLeads(): Promise<boolean> {
  const leaders = await Promise.all([control, other].map(async (each) => (await each.status()).leader));
  expect(leaders.filter(Boolean).length).toBeLessThanOrEqual(1);
  return leaders.includes(true);
}

describe('objects become state', () => {
  test('a pod that joins is one resource, its service another', async () => {
    await cluster.objects.service({ namespace: 'shop', name: 'web', selector: { app: 'web' }, ports: [{ port: 80, targetPort: 8080 }] });
    const before = feed.feed.stats();
    await cluster.objects.pod({
      ...{
        namespace: 'shop',
        name: 'web-1',
        node: 'node-a',
        serviceAccount: 'web',
        labels: { app: 'web' },
        ips: ['10.0.1.3', 'fd00::1:3'],
      },
      annotations: { 'ambient.istio.io/redirection': 'enabled' },
    });
    await feed.until('the pod behind its service', () => {
      const service = [...feed.store.services()].find(({ key }) => key === 'shop/web.shop.svc.cluster.local');
      return service !== undefined && feed.store.endpointsOf(service).some(({ workload }) => workload.healthy);
    });
    const workload = feed.store.byIp('10.0.1.3');
    expect(workload).toMatchObject({
      ...{ uid: 'Kubernetes//Pod/shop/web-1', namespace: 'shop', name: 'web-1', node: 'node-a', serviceAccount: 'web', protocol: 'HBONE' },
      ...{ ips: ['10.0.1.3', 'fd00::1:3'], identity: 'spiffe://cluster.local/ns/shop/sa/web', healthy: true },
      locality: { region: 'r1', zone: 'r1-a' },
    });
    expect(feed.store.byIp('fd00::1:3')).toBe(workload);
    expect(feed.feed.stats().nacks).toBe(before.nacks);
  });

  test('annotation off, another address, gone', async () => {
    const path = '/api/v1/namespaces/shop/pods/web-1';
    await cluster.adminApi.patch(`${path}/status`, { metadata: { annotations: { 'ambient.istio.io/redirection': null } } }, 'merge');
    await feed.until('plain', () => feed.store.byIp('10.0.1.3')?.protocol === 'TCP');
    await cluster.objects.podStatus('shop', 'web-1', { ips: ['10.0.1.9'] });
    await feed.until('the new address', () => feed.store.byIp('10.0.1.9') !== undefined);
    expect(feed.store.byIp('10.0.1.3')).toBeUndefined();
    await cluster.objects.removePod('shop', 'web-1');
    await feed.until('no pod', () => feed.store.byIp('10.0.1.9') === undefined);
  });
});

describe('policies', () => {
  test('CRDs that come later are watched, a policy is sent and its verdict written on it', async () => {
    await cluster.applyCrds();
    const path = `${POLICIES}/authorizationpolicies`;
    const rules = [{ from: [{ source: { principals: ['cluster.local/ns/shop/sa/web'] } }], to: [{ operation: { methods: ['GET'] } }] }];
    await until('the CRD to be served', async () => (await cluster.adminApi.list(path).catch(() => undefined)) !== undefined);
    await cluster.adminApi.create(path, {
      apiVersion: 'security.istio.io/v1',
      kind: 'AuthorizationPolicy',
      metadata: { name: 'only-web', namespace: 'shop' },
      spec: { action: 'ALLOW', rules },
    });
    await until('the policy in the tunnel', () => [...feed.store.policies()].some(({ key }) => key === 'shop/only-web'), 45_000);
    await until('the condition', async () => {
      const policy = await cluster.adminApi.get(`${path}/only-web`);
      const { conditions = [] } = (policy?.['status'] ?? {}) as { conditions?: { type: string; reason: string; message: string }[] };
      return conditions.some(
        ({ type, reason, message }) => type === 'ZtunnelAccepted' && reason === 'UnsupportedValue' && message.includes('methods'),
      );
    });
    await cluster.adminApi.remove(`${path}/only-web`);
    await feed.until('no policy', () => [...feed.store.policies()].length === 0);
  });
});

describe('certificates', () => {
  test('for a pod of the own node, not of another', async () => {
    await cluster.objects.pod({ namespace: 'shop', name: 'web-a', node: 'node-a', serviceAccount: 'web', ips: ['10.0.1.4'] });
    await cluster.objects.pod({ namespace: 'shop', name: 'db-b', node: 'node-b', serviceAccount: 'db', ips: ['10.0.2.4'] });
    const ca = nodeA.ca(relay.port);
    const web = await obtainCertificate(ca.client, 'spiffe://cluster.local/ns/shop/sa/web', DAY_MS);
    expect(identityOf(new X509Certificate(web.chain[0] ?? ''))).toBe('spiffe://cluster.local/ns/shop/sa/web');
    await expect(obtainCertificate(ca.client, 'spiffe://cluster.local/ns/shop/sa/db', DAY_MS)).rejects.toThrow(
      /PERMISSION_DENIED.*no pod of account shop\/db is on node node-a/,
    );
    ca.close();
  });

  test('both replicas sign with one root', async () => {
    const [first, second] = await Promise.all([control, other].map((each) => each.status()));
    expect(first?.ca.signer).toBe(second?.ca.signer);
  });
});

describe('death', () => {
  test('control killed and started again: state stays, only what changed is sent', async () => {
    const known = [...feed.store.workloads()].length;
    await control.kill();
    await cluster.objects.pod({ namespace: 'shop', name: 'while-away', node: 'node-b', serviceAccount: 'web', ips: ['10.0.2.7'] });
    expect([...feed.store.workloads()]).toHaveLength(known);
    const before = feed.feed.stats();
    await control.restart();
    relay.backends = [control.port];
    await until('what changed meanwhile', () => feed.store.byIp('10.0.2.7') !== undefined, 40_000);
    const after = feed.feed.stats();
    expect(after.reconnects).toBeGreaterThan(before.reconnects);
    expect((await control.status()).sessions).toHaveLength(1);
    // One workload, not the mesh: the others were resumed by their versions.
    expect(after.bytes - before.bytes).toBeLessThan(600);
    expect([...feed.store.workloads()]).toHaveLength(known + 1);
  });

  test('of two replicas one leads; when it is killed the other serves at once and writes after a while', async () => {
    relay.backends = [control.port, other.port];
    await until('a leader', oneLeads);
    const first = (await control.status()).leader ? control : other;
    const second = first === control ? other : control;
    relay.backends = [first.port, second.port];
    // The stream goes over to the leader, so that the one that dies is the one in use.
    if ((await first.status()).sessions.length === 0) {
      await second.kill();
      await until('the stream at the leader', async () => (await first.status()).sessions.length === 1, 40_000);
      await second.restart();
    }
    await first.kill();
    await cluster.objects.pod({ namespace: 'shop', name: 'after', node: 'node-b', serviceAccount: 'web', ips: ['10.0.2.8'] });
    await until('a change by the other replica', () => feed.store.byIp('10.0.2.8') !== undefined, 40_000);
    await cluster.createNamespace('later');
    await until('the roots in a new namespace', () => mountRoots(cluster, 'later'), 40_000);
    await until('the other to lead', async () => (await second.status()).leader);
    expect(feed.errors.filter((message) => !/away|lost|closed|UNAVAILABLE|ECONN/i.test(message))).toEqual([]);
    await first.restart();
    await until('one of the two to lead', oneLeads);
  });
});
