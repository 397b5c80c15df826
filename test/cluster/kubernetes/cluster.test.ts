import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { createLogger } from '../../../src/base/log.ts';
import { createKubernetesCluster } from '../../../src/control/kubernetes/cluster.ts';
import type { ClusterObject, ObjectChange } from '../../../src/control/cluster.ts';
import { connectKubernetes } from '../../../src/kubernetes/client.ts';
import { startApiServer, type ApiServer } from '../../support/apiserver.ts';
import { policiesPath, removeCrds } from '../../support/kubernetes/crds.ts';
import { relayTo, type Cut } from '../../support/kubernetes/cut.ts';

let server: ApiServer;
let relay: Cut;
beforeAll(async () => {
  server = await startApiServer();
  relay = await relayTo(server.url, server.kubeconfig);
});
afterAll(async () => {
  relay.close();
  await server.close();
});

const until = (check: () => void): Promise<void> => vi.waitFor(check, { timeout: 40_000, interval: 20 });
const log = createLogger('test', 'silent');

/** A listener that knows only what it was told. */
class Listener {
  readonly objects = new Map<string, ClusterObject>();
  readonly changes: ObjectChange[] = [];
  readonly errors: string[] = [];
  synced = 0;
  readonly #watch: { close(): void };

  constructor(kubeconfig: string) {
    const api = connectKubernetes({ kubeconfig, fieldManager: 'control' });
    this.#watch = createKubernetesCluster({ api, log }).watch({
      onChanges: (changes) => {
        for (const change of changes) {
          this.changes.push(change);
          const key = `${change.kind} ${change.key}`;
          if (change.object === undefined) this.objects.delete(key);
          else this.objects.set(key, change.object);
        }
      },
      onSynced: () => this.synced++,
      onError: (error) => this.errors.push(error.message),
    });
  }

  get(key: string): ClusterObject | undefined {
    return this.objects.get(key);
  }

  close(): void {
    this.#watch.close();
  }
}

describe('a cluster behind the Kubernetes API', () => {
  it('is told as it is, and then as it changes', async () => {
    const { objects } = server;
    await server.createNamespace('shop', { 'istio.io/dataplane-mode': 'ambient' });
    await objects.node('node1', { 'topology.kubernetes.io/zone': 'a' });
    const pod = await objects.pod({
      namespace: 'shop',
      name: 'web-1',
      labels: { app: 'web' },
      annotations: { 'ambient.istio.io/redirection': 'enabled', 'kubectl.kubernetes.io/last-applied-configuration': 'long' },
      ips: ['10.1.0.1', 'fd00::1'],
      ports: [{ name: 'http', containerPort: 8080 }, { containerPort: 9090 }, { name: 'dns', containerPort: 53, protocol: 'UDP' }],
      owner: { apiVersion: 'apps/v1', kind: 'ReplicaSet', name: 'web' },
    });
    await objects.service({ namespace: 'shop', name: 'web', selector: { app: 'web' }, ports: [{ port: 80, targetPort: 'http' }] });
    await objects.service({ namespace: 'shop', name: 'web-headless', spec: { clusterIP: 'None', publishNotReadyAddresses: true } });
    await objects.endpointSlice({
      namespace: 'shop',
      name: 'web-abc',
      service: 'web',
      ports: [{ name: '', port: 8080 }],
      endpoints: [{ address: '10.1.0.1', node: 'node1', pod: 'web-1', podUid: pod.metadata.uid! }],
    });
    const listener = new Listener(relay.kubeconfig);
    try {
      await until(() => expect(listener.synced).toBe(1));
      expect(listener.get('Pod shop/web-1')).toEqual({
        kind: 'Pod',
        namespace: 'shop',
        name: 'web-1',
        uid: pod.metadata.uid,
        node: 'node1',
        serviceAccount: 'default',
        labels: { app: 'web' },
        annotations: { 'ambient.istio.io/redirection': 'enabled' },
        ips: ['10.1.0.1', 'fd00::1'],
        hostNetwork: false,
        phase: 'Running',
        ready: true,
        terminating: false,
        ports: [{ name: 'http', port: 8080 }],
        owner: { kind: 'ReplicaSet', name: 'web' },
      });
      expect(listener.get('Namespace shop')).toMatchObject({ labels: { 'istio.io/dataplane-mode': 'ambient' }, terminating: false });
      expect(listener.get('Node node1')).toMatchObject({ labels: { 'topology.kubernetes.io/zone': 'a' } });
      expect(listener.get('ServiceAccount shop/default')).toEqual({ kind: 'ServiceAccount', namespace: 'shop', name: 'default' });
      expect(listener.get('Service shop/web')).toMatchObject({
        clusterIps: [expect.stringMatching(/^10\.96\./)],
        headless: false,
        type: 'ClusterIP',
        ports: [{ name: '', port: 80, targetPort: 'http' }],
        internalTrafficPolicy: 'Cluster',
        ipFamilies: ['IPv4'],
      });
      expect(listener.get('Service shop/web-headless')).toMatchObject({ clusterIps: [], headless: true, publishNotReadyAddresses: true });
      expect(listener.get('EndpointSlice shop/web-abc')).toMatchObject({
        service: 'web',
        addressType: 'IPv4',
        ports: [{ name: '', port: 8080 }],
        endpoints: [{ addresses: ['10.1.0.1'], ready: true, node: 'node1', target: { kind: 'Pod', name: 'web-1', uid: pod.metadata.uid } }],
      });

      await objects.podStatus('shop', 'web-1', { ips: ['10.1.0.1'], ready: false });
      await until(() => expect(listener.get('Pod shop/web-1')).toMatchObject({ ready: false, ips: ['10.1.0.1'] }));
      await objects.removePod('shop', 'web-1');
      await until(() => expect(listener.get('Pod shop/web-1')).toBeUndefined());
      expect(listener.errors).toEqual([]);
    } finally {
      listener.close();
    }
  });

  it('is in step again after the server was killed and restarted', async () => {
    await server.createNamespace('restart');
    const listener = new Listener(relay.kubeconfig);
    try {
      await until(() => expect(listener.synced).toBe(1));
      await server.kill();
      await until(() => expect(listener.errors.length).toBeGreaterThan(0));
      await server.restart();
      await server.objects.pod({ namespace: 'restart', name: 'late' });
      await until(() => expect(listener.get('Pod restart/late')).toBeDefined());
      expect(listener.synced).toBe(1);
    } finally {
      listener.close();
    }
  });

  it('lists again after versions were compacted while it was away, and tells what is gone', async () => {
    await server.createNamespace('compact');
    for (const name of ['stays', 'goes']) await server.objects.pod({ namespace: 'compact', name });
    const listener = new Listener(relay.kubeconfig);
    try {
      await until(() => expect(listener.synced).toBe(1));
      relay.cut();
      await server.objects.removePod('compact', 'goes');
      await server.objects.pod({ namespace: 'compact', name: 'comes' });
      await server.compact();
      await server.kill(); // the API server's own memory of versions goes with it
      await server.restart();
      listener.changes.length = 0;
      relay.join();
      await until(() => expect(listener.get('Pod compact/comes')).toBeDefined());
      await until(() => expect(listener.get('Pod compact/goes')).toBeUndefined());
      const told = listener.changes.filter(({ kind }) => kind === 'Pod').map(({ key, object }) => [key, object !== undefined]);
      expect(told).toEqual([
        ['compact/comes', true],
        ['compact/goes', false],
      ]);
      expect(listener.synced).toBe(1);
    } finally {
      relay.join();
      listener.close();
    }
  });

  it('has policies from when their definition is installed until it is removed', async () => {
    await server.createNamespace('policies');
    const listener = new Listener(relay.kubeconfig);
    const strict = { spec: { mtls: { mode: 'STRICT' } } };
    const create = (version: string, name: string): Promise<unknown> =>
      server.adminApi.create(policiesPath('PeerAuthentication', 'policies', version), {
        apiVersion: `security.istio.io/${version}`,
        kind: 'PeerAuthentication',
        metadata: { name },
        ...strict,
      });
    try {
      await until(() => expect(listener.synced).toBe(1));
      await server.applyCrds(['v1beta1']);
      await create('v1beta1', 'strict');
      await until(() =>
        expect(listener.get('PeerAuthentication policies/strict')).toMatchObject({
          ...strict,
          generation: 1,
          uid: expect.any(String) as string,
        }),
      );

      // Another version is served now: nothing is told to be gone meanwhile.
      listener.changes.length = 0;
      await server.applyCrds(['v1', 'v1beta1']);
      await create('v1', 'second');
      await until(() => expect(listener.get('PeerAuthentication policies/second')).toBeDefined());
      expect(listener.changes.filter(({ object }) => object === undefined)).toEqual([]);

      await removeCrds(server.adminApi);
      await until(() => expect([...listener.objects.keys()].filter((key) => key.startsWith('PeerAuthentication'))).toEqual([]));

      await server.applyCrds();
      await create('v1', 'again');
      await until(() => expect(listener.get('PeerAuthentication policies/again')).toBeDefined());
    } finally {
      listener.close();
    }
  });

  it('is not in step before the policies that are installed were told', async () => {
    await server.createNamespace('first');
    await server.applyCrds();
    await server.adminApi.create(policiesPath('AuthorizationPolicy', 'first'), {
      apiVersion: 'security.istio.io/v1',
      kind: 'AuthorizationPolicy',
      metadata: { name: 'deny' },
      spec: {},
    });
    const listener = new Listener(relay.kubeconfig);
    try {
      const atSync = vi.waitFor(() => {
        expect(listener.synced).toBe(1);
        return listener.get('AuthorizationPolicy first/deny');
      }, 40_000);
      expect(await atSync).toMatchObject({ spec: {} });
    } finally {
      listener.close();
    }
  });
});
