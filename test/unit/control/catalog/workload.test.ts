/** Pods as xDS workloads. */
import { describe, expect, it } from 'vitest';
import { NetworkMode, TunnelProtocol, WorkloadStatus, WorkloadType } from '../../../../src/proto/workload_pb.js';
import { gone, is, node, pod, podWorkload, portsOf, service, slice, synced, workload } from './objects.ts';

const NODE = node('node-a', {
  'topology.kubernetes.io/region': 'r1',
  'topology.kubernetes.io/zone': 'z1',
  'topology.istio.io/subzone': 's1',
});
const enabled = { 'ambient.istio.io/redirection': 'enabled' };

describe('a pod as a workload', () => {
  it('has every field that a tunnel reads', () => {
    const web = pod('web-5d4f-x1', {
      labels: { app: 'web', 'pod-template-hash': '5d4f', version: 'v2' },
      serviceAccount: 'web',
      annotations: enabled,
      ips: ['10.0.0.1', 'fd00::0:1'],
      owner: { kind: 'ReplicaSet', name: 'web-5d4f' },
    });
    const { store } = synced([NODE, web, service('web')], { network: 'net1', policies: { selecting: () => ['shop/a', 'shop/b'] } });
    const record = podWorkload(store, 'web-5d4f-x1')!;
    expect(record).toMatchObject({
      ...{ uid: 'c1//Pod/shop/web-5d4f-x1', name: 'web-5d4f-x1', namespace: 'shop', network: 'net1', clusterId: 'c1' },
      ...{ serviceAccount: 'web', trustDomain: '', node: 'node-a', tunnelProtocol: TunnelProtocol.HBONE, nativeTunnel: false },
      ...{ workloadName: 'web', workloadType: WorkloadType.POD, canonicalName: 'web', canonicalRevision: 'v2' },
      ...{ status: WorkloadStatus.HEALTHY, networkMode: NetworkMode.STANDARD, authorizationPolicies: ['shop/a', 'shop/b'] },
      locality: { region: 'r1', zone: 'z1', subzone: 's1' },
    });
    expect(record.addresses.map((bytes) => [...bytes])).toEqual([
      [10, 0, 0, 1],
      [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
    ]);
    expect(portsOf(record, 'web')).toEqual([[80, 8080]]);
    expect(store.get('address', record.uid)).toMatchObject({
      aliases: ['net1/10.0.0.1', 'net1/fd00::1'],
      node: 'node-a',
      services: ['shop/web.shop.svc.cluster.local'],
    });
  });

  it.each([
    ['not captured', {}, TunnelProtocol.NONE, false],
    ['being captured', { annotations: { 'ambient.istio.io/redirection': 'pending' } }, TunnelProtocol.NONE, false],
    ['captured', { annotations: enabled }, TunnelProtocol.HBONE, false],
    ['a tunnel itself', { labels: { 'networking.istio.io/tunnel': 'http3,http' } }, TunnelProtocol.HBONE, true],
    ['of another tunnel', { labels: { 'networking.istio.io/tunnel': 'http3' } }, TunnelProtocol.NONE, false],
  ])('%s: tunnel protocol', (_name, fields, tunnelProtocol, nativeTunnel) => {
    const { store } = synced([pod('web', fields)]);
    expect(podWorkload(store, 'web')).toMatchObject({ tunnelProtocol, nativeTunnel });
  });

  it('is healthy only when ready and not on its way out', () => {
    const { store } = synced([
      pod('a'),
      pod('b', { ready: false }),
      pod('c', { terminating: true }),
      pod('d', { phase: 'Pending', ready: false }),
    ]);
    expect(['a', 'b', 'c', 'd'].map((name) => podWorkload(store, name)?.status)).toEqual([
      WorkloadStatus.HEALTHY,
      ...[WorkloadStatus.UNHEALTHY, WorkloadStatus.UNHEALTHY, WorkloadStatus.UNHEALTHY],
    ]);
  });

  it('does not exist when it is done, or has no address yet', () => {
    const { store, catalog, told } = synced([
      pod('a', { phase: 'Succeeded' }),
      pod('b', { phase: 'Failed' }),
      pod('c', { ips: [] }),
      pod('d'),
    ]);
    expect([...store.all('address')].map(({ name }) => name)).toEqual(['c1//Pod/shop/d']);
    catalog.apply(is(pod('d', { phase: 'Succeeded' })));
    expect(told.removed).toEqual(['c1//Pod/shop/d']);
    expect(store.size('address')).toBe(0);
  });

  it('names its trust domain unless it is the usual one, and its host network', () => {
    const { store } = synced([pod('web', { hostNetwork: true })], { trustDomain: 'example.org' });
    expect(podWorkload(store, 'web')).toMatchObject({ trustDomain: 'example.org', networkMode: NetworkMode.HOST_NETWORK });
  });

  it.each([
    ['its own name', {}, 'web-1'],
    ['Deployment', { owner: { kind: 'ReplicaSet', name: 'web-5d4f' }, labels: { 'pod-template-hash': '5d4f' } }, 'web'],
    ['Rollout', { owner: { kind: 'ReplicaSet', name: 'web-77' }, labels: { 'rollouts-pod-template-hash': '77' } }, 'web'],
    ['bare ReplicaSet', { owner: { kind: 'ReplicaSet', name: 'web-rs' }, labels: {} }, 'web-rs'],
    ['StatefulSet', { owner: { kind: 'StatefulSet', name: 'web' } }, 'web'],
    ['CronJob', { owner: { kind: 'Job', name: 'nightly-28123456' } }, 'nightly'],
    ['Job', { owner: { kind: 'Job', name: 'import-7' } }, 'import-7'],
    ['DeploymentConfig', { owner: { kind: 'ReplicationController', name: 'web-3' }, labels: { deploymentconfig: 'web' } }, 'web'],
    ['static pod', { owner: { kind: 'Node', name: 'node-a' } }, 'web-1'],
    ['label', { owner: { kind: 'StatefulSet', name: 'web' }, labels: { 'service.istio.io/workload-name': 'mine' } }, 'mine'],
  ])('workload name from %s', (_name, fields, workloadName) => {
    const { store } = synced([pod('web-1', { labels: {}, ...fields })]);
    expect(podWorkload(store, 'web-1')).toMatchObject({ workloadName, canonicalName: workloadName, canonicalRevision: 'latest' });
  });

  it('canonical name and revision: the first label that is there', () => {
    const labels = {
      app: 'c',
      'app.kubernetes.io/name': 'b',
      'service.istio.io/canonical-name': 'a',
      version: '3',
      'app.kubernetes.io/version': '2',
    };
    const { store } = synced([pod('web', { labels })]);
    expect(podWorkload(store, 'web')).toMatchObject({ canonicalName: 'a', canonicalRevision: '2' });
  });
});

describe('the services of a pod', () => {
  it('are those whose whole selector matches, in its own namespace', () => {
    const labels = { app: 'web', tier: 'front' };
    const { store } = synced([
      pod('web', { labels }),
      service('one', { selector: { app: 'web' } }),
      service('both', { selector: { app: 'web', tier: 'front' } }),
      service('other-tier', { selector: { app: 'web', tier: 'back' } }),
      service('none', { selector: {} }),
      service('elsewhere', { namespace: 'bank', selector: { app: 'web' } }),
      service('dns', { type: 'ExternalName', selector: { app: 'web' } }),
    ]);
    expect(Object.keys(podWorkload(store, 'web')!.services)).toEqual([
      'shop/both.shop.svc.cluster.local',
      'shop/one.shop.svc.cluster.local',
    ]);
  });

  it('leave out a named port that the pod does not have', () => {
    const ports = [
      { name: 'http', port: 80, targetPort: 'web' },
      { name: 'admin', port: 81, targetPort: 'admin' },
      { name: 'tcp', port: 82, targetPort: 9000 },
    ];
    const { store, catalog } = synced([pod('web', { ports: [{ name: 'web', port: 8081 }] }), service('web', { ports })]);
    expect(portsOf(podWorkload(store, 'web'), 'web')).toEqual([
      [80, 8081],
      [82, 9000],
    ]);
    catalog.apply(is(pod('web', { ports: [{ name: 'admin', port: 7 }] })));
    expect(portsOf(podWorkload(store, 'web'), 'web')).toEqual([
      [81, 7],
      [82, 9000],
    ]);
  });

  it('without selector come from EndpointSlices that name this very pod', () => {
    const target = { kind: 'Pod', namespace: 'shop', name: 'web', uid: 'uid-web' };
    const manual = slice('manual', { endpoints: [{ addresses: ['10.0.0.1'], ready: true, target }] });
    const { store, catalog, told } = synced([pod('web'), service('manual', { selector: {} }), manual]);
    expect(portsOf(podWorkload(store, 'web'), 'manual')).toEqual([[80, 8080]]);
    expect(store.size('address')).toBe(2);

    // Made anew under the same name, it is another pod, until the slice says so.
    catalog.apply(is(pod('web', { uid: 'uid-2' })));
    expect(portsOf(podWorkload(store, 'web'), 'manual')).toBeUndefined();
    catalog.apply(is(slice('manual', { endpoints: [{ addresses: ['10.0.0.1'], ready: true, target: { ...target, uid: 'uid-2' } }] })));
    expect(portsOf(podWorkload(store, 'web'), 'manual')).toEqual([[80, 8080]]);

    // Readiness in a slice is nothing to the pod, which has its own.
    told.changed.length = 0;
    catalog.apply(is(slice('manual', { endpoints: [{ addresses: ['10.0.0.1'], ready: false, target: { ...target, uid: 'uid-2' } }] })));
    expect(told.changed).toEqual([]);
    catalog.apply(gone(manual));
    expect(portsOf(podWorkload(store, 'web'), 'manual')).toBeUndefined();
  });
});

describe('endpoints that are no pods', () => {
  const external = (fields: object = {}): ReturnType<typeof slice> =>
    slice('db-x', {
      service: 'db',
      ports: [{ name: 'pg', port: 5432 }],
      endpoints: [
        { addresses: ['192.0.2.1'], ready: true },
        { addresses: ['192.0.2.2'], ready: false },
        { addresses: ['10.0.0.1'], ready: true, target: { kind: 'Pod', namespace: 'shop', name: 'web', uid: 'u' } },
      ],
      ...fields,
    });
  const db = service('db', { selector: {}, ports: [{ name: 'pg', port: 5000, targetPort: 5432 }] });
  const uid = (ip: string): string => `c1/discovery.k8s.io/EndpointSlice/shop/db-x/${ip}`;

  it('are workloads of the slice, plain and with a shared address', () => {
    const { store } = synced([db, external()]);
    const record = workload(store, uid('192.0.2.1'))!;
    expect(record).toMatchObject({
      ...{ name: 'db-x', namespace: 'shop', clusterId: 'c1', status: WorkloadStatus.HEALTHY, networkMode: NetworkMode.HOST_NETWORK },
      ...{ tunnelProtocol: TunnelProtocol.NONE, serviceAccount: '', node: '' },
    });
    expect(portsOf(record, 'db')).toEqual([[5000, 5432]]);
    expect(workload(store, uid('192.0.2.2'))?.status).toBe(WorkloadStatus.UNHEALTHY);
    expect(store.size('address')).toBe(3);
  });

  it('come and go with their service and their slice', () => {
    const { store, catalog, told } = synced([external()]);
    expect(store.size('address')).toBe(0);
    catalog.apply(is(db));
    expect(store.size('address')).toBe(3);
    catalog.apply(is(external({ endpoints: [{ addresses: ['192.0.2.2'], ready: false }] })));
    expect(told.removed).toEqual([uid('192.0.2.1')]);
    catalog.apply(gone(db));
    expect(store.size('address')).toBe(0);
  });

  it('names of hosts are nothing that L4 can dial; faults are named', () => {
    const { store, lines } = synced([
      db,
      external({ addressType: 'FQDN', name: 'names', endpoints: [{ addresses: ['db.example'], ready: true }] }),
      external({ endpoints: [{ addresses: ['nonsense'], ready: true }, ...[1, 2].map(() => ({ addresses: ['192.0.2.9'], ready: true }))] }),
    ]);
    expect(store.size('address')).toBe(2);
    expect(lines).toEqual([
      expect.objectContaining({
        object: 'EndpointSlice shop/db-x',
        faults: ['"nonsense" is no IP address', '192.0.2.9 is in it twice'],
      }),
    ]);
  });
});
