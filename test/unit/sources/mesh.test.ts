/** Pods and services of a mesh file as workloads and services, and how they reach the state. */
import { describe, expect, it } from 'vitest';
import { createFileFeed } from '../../../src/sources/file/feed.ts';
import { stateOfMesh } from '../../../src/sources/file/mesh.ts';
import type { MeshSnapshot, PodRecord, ServiceRecord, Source } from '../../../src/sources/source.ts';
import { StateStore } from '../../../src/state/store.ts';

const pod = (name: string, change: Partial<PodRecord> = {}): PodRecord => ({
  uid: `uid-${name}`,
  namespace: 'shop',
  name,
  node: 'node1',
  serviceAccount: 'web',
  labels: { app: 'web' },
  annotations: {},
  ips: [],
  hostNetwork: false,
  phase: 'Running',
  ...change,
});
const service = (change: Partial<ServiceRecord> = {}): ServiceRecord => ({
  namespace: 'shop',
  name: 'web',
  hostname: `${change.name ?? 'web'}.${change.namespace ?? 'shop'}.svc.cluster.local`,
  selector: { app: 'web' },
  vips: ['10.96.0.1'],
  ports: [{ port: 80, targetPort: 8080 }],
  ...change,
});
const mesh = (pods: PodRecord[], services: ServiceRecord[] = []): MeshSnapshot => ({
  trustDomain: 'cluster.local',
  namespaces: new Map(),
  pods: new Map(pods.map((one) => [one.uid, one])),
  services: new Map(services.map((one) => [`${one.namespace}/${one.name}`, one])),
});
function state(pods: PodRecord[], services: ServiceRecord[] = []): StateStore {
  const store = new StateStore();
  store.replace(stateOfMesh(mesh(pods, services), ''));
  return store;
}

describe('state of a mesh', () => {
  it('finds workloads by address in any spelling, and knows who is captured', () => {
    const store = state([
      pod('a', { ips: ['10.0.0.1', 'FD00::0:1'], annotations: { 'ambient.istio.io/redirection': 'enabled' } }),
      pod('b', { ips: ['10.0.0.2'], annotations: { 'ambient.istio.io/redirection': 'pending' } }),
    ]);
    expect(store.byIp('fd00::1')).toMatchObject({ name: 'a', protocol: 'HBONE', identity: 'spiffe://cluster.local/ns/shop/sa/web' });
    expect(store.byIp('10.0.0.2')?.protocol).toBe('TCP');
    expect(store.byIp('10.0.0.3')).toBeUndefined();
  });

  it('forgets pods that have ended: their addresses may be others now', () => {
    const store = state([pod('old', { ips: ['10.0.0.1'], phase: 'Succeeded' }), pod('new', { ips: ['10.0.0.1'] })]);
    expect(store.byIp('10.0.0.1')?.name).toBe('new');
    expect([...store.workloads()]).toHaveLength(1);
  });

  it('selects endpoints in the namespace of the service only; an empty selector selects nobody', () => {
    const pods = [pod('a', { ips: ['10.0.0.1'] }), pod('b', { namespace: 'other', ips: ['10.0.0.2'] }), pod('c', { labels: {} })];
    const store = state(pods, [service(), service({ name: 'none', selector: {}, vips: ['10.96.0.2'] })]);
    const names = (vip: string) => store.endpointsOf(store.byVip(vip, 'shop')!).map(({ workload }) => workload.name);
    expect(names('10.96.0.1')).toEqual(['a']);
    expect(names('10.96.0.2')).toEqual([]);
    expect(store.servicesOf(store.byIp('10.0.0.1')!).map(({ name }) => name)).toEqual(['web']);
  });

  it('is of the network of who reads it', () => {
    const { workloads } = stateOfMesh(mesh([pod('a')]), 'net1');
    expect(workloads[0]?.network).toBe('net1');
  });
});

describe('feed of a file', () => {
  it('is synced by the first snapshot, applies differences after it, and hands faults on', () => {
    let snapshot!: (mesh: MeshSnapshot) => void;
    let fault!: (error: Error) => void;
    let closed = 0;
    const source: Pick<Source, 'watch'> = {
      watch: (onSnapshot, onError) => {
        snapshot = onSnapshot;
        fault = onError;
        return { close: () => closed++ };
      },
    };
    const store = new StateStore();
    const changes: string[][] = [];
    const errors: string[] = [];
    let synced = 0;
    store.onChange(({ workloads }) => changes.push(workloads.map(({ name }) => name)));
    const feed = createFileFeed(source as Source).start(store, {
      onSynced: () => {
        expect(store.byIp('10.0.0.1')?.name).toBe('a');
        synced++;
      },
      onError: (error) => errors.push(error.message),
    });
    expect(synced).toBe(0);
    const a = pod('a', { ips: ['10.0.0.1'] });
    snapshot(mesh([a, pod('b')], [service()]));
    snapshot(mesh([a, pod('b', { ips: ['10.0.0.2'] })], [service()]));
    snapshot(mesh([{ ...a }, pod('b', { ips: ['10.0.0.2'] })], [service()]));
    fault(new Error('line 3'));
    expect(synced).toBe(1);
    expect(changes).toEqual([['a', 'b'], ['b']]);
    expect(errors).toEqual(['line 3']);
    feed.close();
    expect(closed).toBe(1);
  });
});
