import { describe, expect, it } from 'vitest';
import type { MeshSnapshot, PodRecord, ServiceRecord } from '../../../src/sources/source.ts';
import { stateOfMesh } from '../../../src/state/mesh.ts';
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
  hostname: 'web.shop.svc.cluster.local',
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

describe('state of a mesh', () => {
  it('finds workloads by address in any spelling, and knows who is captured', () => {
    const state = stateOfMesh(
      mesh([
        pod('a', { ips: ['10.0.0.1', 'FD00::0:1'], annotations: { 'ambient.istio.io/redirection': 'enabled' } }),
        pod('b', { ips: ['10.0.0.2'], annotations: { 'ambient.istio.io/redirection': 'pending' } }),
      ]),
    );
    expect(state.byIp('fd00::1')).toMatchObject({ name: 'a', protocol: 'HBONE', identity: 'spiffe://cluster.local/ns/shop/sa/web' });
    expect(state.byIp('10.0.0.2')?.protocol).toBe('TCP');
    expect(state.byIp('10.0.0.3')).toBeUndefined();
  });

  it('forgets pods that have ended: their addresses may be others now', () => {
    const state = stateOfMesh(mesh([pod('old', { ips: ['10.0.0.1'], phase: 'Succeeded' }), pod('new', { ips: ['10.0.0.1'] })]));
    expect(state.byIp('10.0.0.1')?.name).toBe('new');
    expect(state.workloads).toHaveLength(1);
  });

  it('never lets a host-network pod hide the owner of an address', () => {
    const host = pod('host', { ips: ['10.0.0.1'], hostNetwork: true });
    for (const pods of [
      [host, pod('own', { ips: ['10.0.0.1'] })],
      [pod('own', { ips: ['10.0.0.1'] }), host],
    ])
      expect(stateOfMesh(mesh(pods)).byIp('10.0.0.1')?.name).toBe('own');
  });

  it('selects endpoints in the namespace of the service only; an empty selector selects nobody', () => {
    const pods = [pod('a', { ips: ['10.0.0.1'] }), pod('b', { namespace: 'other' }), pod('c', { labels: {} })];
    const state = stateOfMesh(mesh(pods, [service(), service({ name: 'none', selector: {}, vips: ['10.96.0.2'] })]));
    expect(state.byVip('10.96.0.1', 'shop')?.endpoints.map(({ workload }) => workload.name)).toEqual(['a']);
    expect(state.byVip('10.96.0.2', 'shop')?.endpoints).toEqual([]);
    expect(state.servicesOf(state.byIp('10.0.0.1')!).map(({ name }) => name)).toEqual(['web']);
  });

  it("prefers the caller's namespace when two services claim an address", () => {
    const state = stateOfMesh(mesh([], [service(), service({ namespace: 'other' })]));
    expect(state.byVip('10.96.0.1', 'other')?.namespace).toBe('other');
    expect(state.byVip('10.96.0.1', 'third')?.namespace).toBe('shop');
  });

  it('tells generations of one pod apart by uid', () => {
    const state = stateOfMesh(mesh([pod('a', { uid: 'old' }), pod('a', { uid: 'new' })]));
    const id = { namespace: 'shop', name: 'a', serviceAccount: 'web' };
    expect(state.byId(id, 'old')?.uid).toBe('old');
    expect(state.byId(id, 'unknown')?.uid).toBe('new');
    expect(state.byId({ ...id, serviceAccount: 'other' })).toBeUndefined();
  });
});

describe('store', () => {
  const id = { namespace: 'shop', name: 'a', serviceAccount: 'web' };

  it('lets a connection wait for its workload', async () => {
    const store = new StateStore();
    const waiting = store.waitFor(id, 'uid-a', 5000);
    store.update(mesh([]));
    store.update(mesh([pod('a')]));
    expect((await waiting)?.name).toBe('a');
    expect(store.synced).toBe(true);
  });

  it('gives up after the time, or when told to', async () => {
    const store = new StateStore();
    expect(await store.waitFor(id, '', 10)).toBeUndefined();
    const abort = new AbortController();
    const waiting = store.waitFor(id, '', 60_000, abort.signal);
    abort.abort();
    expect(await waiting).toBeUndefined();
    expect(await store.waitFor(id, '', 60_000, abort.signal)).toBeUndefined();
  });
});
