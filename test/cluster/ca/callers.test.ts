/** Who may have which certificate, with tokens, pods and token reviews of a real API server. */
import { X509Certificate } from 'node:crypto';
import { status, type ServiceError } from '@grpc/grpc-js';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { Changes } from '../../../src/base/changes.ts';
import { Authority } from '../../../src/control/ca/authority.ts';
import { accountLookup } from '../../../src/control/ca/inventory.ts';
import { RootStore } from '../../../src/control/ca/root-store.ts';
import { certificateService } from '../../../src/control/ca/service.ts';
import { ServingCertificate, servingNames } from '../../../src/control/ca/serving-certificate.ts';
import { TokenReviewAuthenticator } from '../../../src/control/ca/token-review.ts';
import { Catalog } from '../../../src/control/catalog/catalog.ts';
import { createKubernetesCluster } from '../../../src/control/kubernetes/cluster.ts';
import { ResourceStore } from '../../../src/control/resource-store.ts';
import { ControlServer } from '../../../src/control/server.ts';
import { connectKubernetes } from '../../../src/kubernetes/client.ts';
import { startApiServer, type ApiServer } from '../../support/apiserver.ts';
import { CaClient } from '../../support/ca/client.ts';
import { recordingLog } from '../../support/ca/log.ts';
import { freshRequest } from '../../support/csr.ts';
import { until } from '../../support/kubernetes/until.ts';

const NAMESPACE = 'culvert-system';
const AUDIENCE = 'istio-ca';
const identity = (namespace: string, account: string) => `spiffe://cluster.local/ns/${namespace}/sa/${account}`;

let cluster: ApiServer;
let client: CaClient;
let catalog: Catalog;
let csr: string;
const changes = new Changes();
const { log, lines } = recordingLog();
const end: (() => unknown)[] = [];

beforeAll(async () => {
  cluster = await startApiServer({ flags: ['--enable-admission-plugins=NodeRestriction'] });
  for (const namespace of [NAMESPACE, 'shop']) await cluster.createNamespace(namespace);
  for (const node of ['node-a', 'node-b']) await cluster.objects.node(node);
  await cluster.objects.serviceAccount(NAMESPACE, 'ztunnel');
  for (const account of ['web', 'db']) await cluster.objects.serviceAccount('shop', account);
  const pod = (namespace: string, name: string, node: string, serviceAccount: string, ip: string) =>
    cluster.objects.pod({ namespace, name, node, serviceAccount, ips: [ip] });
  await pod(NAMESPACE, 'ztunnel-a', 'node-a', 'ztunnel', '10.0.1.2');
  await pod(NAMESPACE, 'ztunnel-b', 'node-b', 'ztunnel', '10.0.2.2');
  await pod('shop', 'web-1', 'node-a', 'web', '10.0.1.3');
  await pod('shop', 'db-1', 'node-b', 'db', '10.0.2.3');

  const api = connectKubernetes({ kubeconfig: cluster.kubeconfig, fieldManager: 'culvert-control' });
  catalog = new Catalog({
    trustDomain: 'cluster.local',
    clusterDomain: 'cluster.local',
    clusterId: 'Kubernetes',
    network: '',
    store: new ResourceStore(),
    log,
  });
  const watch = await new Promise<{ close(): void }>((resolve) => {
    const watching = createKubernetesCluster({ api, log }).watch({
      onChanges: (batch) => {
        catalog.apply(batch);
        changes.notify();
      },
      onSynced: () => {
        catalog.synced();
        resolve(watching);
      },
      onError: (error) => log.warn(error.message),
    });
  });
  const roots = await RootStore.open({ api, namespace: NAMESPACE, isLeader: () => true, overlapMs: 60_000, log });
  const authority = new Authority(roots.material);
  const serving = await ServingCertificate.obtain({ authority, names: servingNames('culvert-control', NAMESPACE, 'cluster.local'), log });
  const service = certificateService({
    authority,
    authenticator: new TokenReviewAuthenticator({ api, audience: AUDIENCE, cacheMs: 0 }),
    policy: { trustDomain: 'cluster.local', trustedNodeAccounts: new Set([`${NAMESPACE}/ztunnel`]) },
    inventory: catalog,
    changes,
    lookup: accountLookup(api),
    log,
  });
  const server = new ControlServer({ address: '127.0.0.1:0', methods: [service], tls: serving, log });
  client = new CaClient(await server.start(), authority.roots);
  csr = (await freshRequest()).csr;
  end.push(
    () => client.close(),
    () => server.close(1000),
    () => serving.close(),
    () => roots.close(),
    () => watch.close(),
  );
});

afterAll(async () => {
  for (const close of end) await close();
  await cluster.close();
});

beforeEach(() => {
  lines.length = 0;
});

const tunnelToken = (name: string, more: { audience?: string; expirationSeconds?: number } = {}) =>
  cluster.token(NAMESPACE, 'ztunnel', { audience: AUDIENCE, pod: name, ...more });

describe('a node', () => {
  it('gets the identities of the pods that it runs, its own among them', async () => {
    const token = await tunnelToken('ztunnel-a');
    for (const wanted of [identity('shop', 'web'), identity(NAMESPACE, 'ztunnel')]) {
      const { certChain } = await client.ask({ token, csr, identity: wanted });
      expect(new X509Certificate(certChain[0]!).subjectAltName).toBe(`URI:${wanted}`);
    }
    const own = await client.ask({ token, csr });
    expect(new X509Certificate(own.certChain[0]!).subjectAltName).toBe(`URI:${identity(NAMESPACE, 'ztunnel')}`);
  });

  it('is refused the identities of another node, until such a pod comes to it, and when it is gone again', async () => {
    const token = await tunnelToken('ztunnel-a');
    const ask = { token, csr, identity: identity('shop', 'db') };
    const error = await client.refusal(ask);
    expect(error.code).toBe(status.PERMISSION_DENIED);
    expect(error.details).toBe(`give ${NAMESPACE}/ztunnel a certificate for ${ask.identity}: no pod of account shop/db is on node node-a`);
    expect(lines.filter(({ msg }) => msg === error.details)).toHaveLength(1);
    expect(lines[0]).toMatchObject({ caller: { pod: { name: 'ztunnel-a' }, node: 'node-a' }, identity: ask.identity });

    const waiting = client.ask(ask);
    await cluster.objects.pod({ namespace: 'shop', name: 'db-2', node: 'node-a', serviceAccount: 'db' });
    expect((await waiting).certChain).toHaveLength(2);
    await cluster.objects.podStatus('shop', 'db-2', { phase: 'Succeeded' });
    await until('the pod to have ended', () => !catalog.podsOnNode('node-a', 'shop', 'db'));
    expect((await client.refusal(ask)).code).toBe(status.PERMISSION_DENIED);
    await cluster.objects.removePod('shop', 'db-2');
  });

  it('cannot help itself to the account "default" by a mirror pod, which it may make in any namespace but has no account', async () => {
    const { uid = '' } = (await cluster.adminApi.get('/api/v1/nodes/node-a'))?.metadata ?? {};
    const kubeconfig = await cluster.userKubeconfig('node-a', 'O=system:nodes,CN=system:node:node-a');
    await connectKubernetes({ kubeconfig, fieldManager: 'kubelet' }).create('/api/v1/namespaces/shop/pods', {
      metadata: {
        name: 'static-node-a',
        annotations: { 'kubernetes.io/config.mirror': 'x' },
        ownerReferences: [{ apiVersion: 'v1', kind: 'Node', name: 'node-a', uid, controller: true }],
      },
      spec: { nodeName: 'node-a', containers: [{ name: 'main', image: 'none' }] },
    });
    await until('the pod to be known', () => catalog.pod('shop', 'static-node-a') !== undefined);
    const error = await client.refusal({ token: await tunnelToken('ztunnel-a'), csr, identity: identity('shop', 'default') });
    expect(error).toMatchObject({ code: status.PERMISSION_DENIED });
    expect(error.details).toContain('no pod of account shop/default is on node node-a');
    await cluster.objects.removePod('shop', 'static-node-a');
  });

  it('is known by its pod: one of the same name with another UID is another', async () => {
    await cluster.objects.pod({ namespace: NAMESPACE, name: 'ztunnel-c', node: 'node-a', serviceAccount: 'ztunnel' });
    const before = await tunnelToken('ztunnel-c');
    await client.ask({ token: before, csr, identity: identity('shop', 'web') });
    await cluster.objects.removePod(NAMESPACE, 'ztunnel-c');
    await cluster.objects.pod({ namespace: NAMESPACE, name: 'ztunnel-c', node: 'node-b', serviceAccount: 'ztunnel' });
    const error = await client.refusal({ token: before, csr, identity: identity('shop', 'web') });
    // The API server itself takes a token that it has just seen for good for 10 s; the UID tells.
    expect(error.details).toMatch(/has UID .*, the token is bound to|no longer exists|accept token/);
    expect([status.PERMISSION_DENIED, status.UNAUTHENTICATED]).toContain(error.code);
    const after = await tunnelToken('ztunnel-c');
    await client.ask({ token: after, csr, identity: identity('shop', 'db') });
    expect((await client.refusal({ token: after, csr, identity: identity('shop', 'web') })).code).toBe(status.PERMISSION_DENIED);
    await cluster.objects.removePod(NAMESPACE, 'ztunnel-c');
  });
});

describe('a token', () => {
  it.each<[string, () => Promise<string>, RegExp]>([
    // more than the minute by which clocks may differ
    ['that has expired', () => tunnelToken('ztunnel-a', { expirationSeconds: -120 }), /expired/],
    ['for another audience', () => tunnelToken('ztunnel-a', { audience: 'vault' }), /audience/],
    ['for the API server', () => tunnelToken('ztunnel-a', { audience: 'https://kubernetes.default.svc.cluster.local' }), /audience/],
    ['of somebody else', () => Promise.resolve('eyJhbGciOiJFUzI1NiJ9.e30.AAAA'), /accept token/],
  ])('%s is refused', async (_name, token, why) => {
    const error = await client.refusal({ token: await token(), csr, identity: identity('shop', 'web') });
    expect(error.code).toBe(status.UNAUTHENTICATED);
    expect(error.details).toMatch(why);
  });

  it('that is about to expire is good', async () => {
    const token = await tunnelToken('ztunnel-a', { expirationSeconds: 60 });
    expect((await client.ask({ token, csr, identity: identity('shop', 'web') })).certChain).toHaveLength(2);
  });

  it('of a workload is good for its own identity only', async () => {
    const token = await cluster.token('shop', 'web', { audience: AUDIENCE, pod: 'web-1' });
    expect(new X509Certificate((await client.ask({ token, csr })).certChain[0]!).subjectAltName).toBe(`URI:${identity('shop', 'web')}`);
    const error = await client.refusal({ token, csr, identity: identity('shop', 'web') });
    expect(error.code).toBe(status.PERMISSION_DENIED);
    expect(error.details).toContain('account shop/web may not ask for other identities');
  });

  it('of a tunnel that is bound to no pod says of no node', async () => {
    const token = await cluster.token(NAMESPACE, 'ztunnel', { audience: AUDIENCE });
    const error = await client.refusal({ token, csr, identity: identity('shop', 'web') });
    expect(error).toMatchObject({ code: status.PERMISSION_DENIED });
    expect(error.details).toContain('bound to no pod');
  });

  it('of an account that is gone is refused', async () => {
    await cluster.objects.serviceAccount('shop', 'passing');
    const token = await cluster.token('shop', 'passing', { audience: AUDIENCE });
    await cluster.adminApi.remove('/api/v1/namespaces/shop/serviceaccounts/passing');
    const answer = () =>
      client.ask({ token, csr }).then(
        () => status.OK,
        (error: unknown) => (error as ServiceError).code,
      );
    // Within 10 s, if the API server has seen the token before it noticed.
    await until('the token to be refused', async () => (await answer()) === status.UNAUTHENTICATED);
  });
});

it('a pod whose account is gone has no identity', async () => {
  await cluster.objects.serviceAccount('shop', 'late');
  await cluster.objects.pod({ namespace: 'shop', name: 'late-1', node: 'node-a', serviceAccount: 'late' });
  const ask = { token: await tunnelToken('ztunnel-a'), csr, identity: identity('shop', 'late') };
  await client.ask(ask);
  await cluster.adminApi.remove('/api/v1/namespaces/shop/serviceaccounts/late');
  await until('the account to be gone', () => !catalog.serviceAccountExists('shop', 'late'));
  expect((await client.refusal(ask)).details).toContain('there is no service account shop/late');
});

it('while the API server is away nobody new is let in, and it is said to be for now', async () => {
  const ask = { token: await tunnelToken('ztunnel-a'), csr, identity: identity('shop', 'web') };
  await cluster.kill();
  expect((await client.refusal(ask)).code).toBe(status.UNAVAILABLE);
  await cluster.restart();
  expect((await client.ask(ask)).certChain).toHaveLength(2);
});
