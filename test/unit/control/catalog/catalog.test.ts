/** What a change costs, what the catalogue answers, and what it says of faults. */
import fc from 'fast-check';
import { describe, expect, it, vi } from 'vitest';
import type { ClusterObject, ObjectChange } from '../../../../src/control/cluster.ts';
import { WorkloadStatus } from '../../../../src/proto/workload_pb.js';
import { gone, is, namespace, node, pod, podWorkload, service, serviceRecord, slice, synced, versions, world } from './objects.ts';

const name = (one: string): string => `c1//Pod/shop/${one}`;
const host = (one: string): string => `shop/${one}.shop.svc.cluster.local`;

describe('catalogue', () => {
  it('publishes nothing before it is synced, then all at once', () => {
    const { catalog, store } = world();
    let told = 0;
    store.onChange(() => told++);
    catalog.apply(is(pod('a')));
    catalog.apply(is(service('a')));
    expect(store.size('address')).toBe(0);
    expect(catalog.pod('shop', 'a')).toBeDefined();
    catalog.synced();
    expect(store.size('address')).toBe(2);
    expect(told).toBe(1);
  });

  it('a pod costs one resource, the same again none', () => {
    const { catalog, told } = synced([pod('a'), pod('b', { ips: ['10.0.0.2'] }), service('a', { selector: { app: 'a' } })]);
    catalog.apply(is(pod('a', { ready: false })));
    expect(told).toEqual({ changed: [name('a')], removed: [] });
    catalog.apply(is(pod('a', { ready: false })));
    expect(told.changed).toHaveLength(1);
  });

  it('a service costs itself and the workloads whose ports change', () => {
    const { catalog, told } = synced([pod('a'), pod('b', { ips: ['10.0.0.2'] }), service('a')]);
    catalog.apply(is(service('a', { clusterIps: ['10.96.0.9'] })));
    expect(told.changed.splice(0)).toEqual([host('a')]);
    catalog.apply(is(service('a', { clusterIps: ['10.96.0.9'], ports: [{ name: '', port: 81, targetPort: 8080 }] })));
    expect(told.changed.splice(0).sort()).toEqual([name('a'), host('a')].sort());
    catalog.apply(is(service('a', { clusterIps: ['10.96.0.9'], selector: { app: 'b' } })));
    expect(told.changed.splice(0).sort()).toEqual([name('a'), name('b')].sort().concat(host('a')));
    catalog.apply(gone(service('a')));
    expect(told).toEqual({ changed: [name('b')], removed: [host('a')] });
  });

  it('a node costs its pods, and only when its place changes', () => {
    const { catalog, told, store } = synced([node('node-a'), pod('a'), pod('b', { node: 'node-b', ips: ['10.0.0.2'] })]);
    catalog.apply(is(node('node-a', { 'kubernetes.io/os': 'linux' })));
    expect(told.changed).toEqual([]);
    catalog.apply(is(node('node-a', { 'topology.kubernetes.io/zone': 'z1' })));
    expect(told.changed).toEqual([name('a')]);
    expect(podWorkload(store, 'a')?.locality?.zone).toBe('z1');
    catalog.apply(gone(node('node-a')));
    expect(podWorkload(store, 'a')?.locality).toBeUndefined();
  });

  it('policies are asked again where they may have changed', () => {
    const selected = new Map<string, string[]>();
    const policies = {
      selecting: (_namespace: string, labels: Readonly<Record<string, string>>) => selected.get(labels['app'] ?? '') ?? [],
    };
    const { catalog, told, store } = synced([pod('a'), pod('b', { namespace: 'bank', ips: ['10.0.0.2'] })], { policies });
    selected.set('a', ['shop/strict']).set('b', ['bank/strict']);
    catalog.policiesChanged(new Set(['shop']));
    expect(told.changed).toEqual([name('a')]);
    expect(podWorkload(store, 'a')?.authorizationPolicies).toEqual(['shop/strict']);
    catalog.policiesChanged('all');
    expect(told.changed).toEqual([name('a'), 'c1//Pod/bank/b']);
  });

  it('what concerns thousands of pods is done in turns, and what comes meanwhile is not lost', async () => {
    let policy = 'root/before';
    const many = Array.from({ length: 3000 }, (_, i) => pod(`p${i}`, { ips: [`10.1.${i >> 8}.${i & 255}`] }));
    const { catalog, told, store } = synced(many, { policies: { selecting: () => [policy] } });
    expect(store.size('address')).toBe(3000);
    policy = 'root/after';
    catalog.policiesChanged('all');
    expect(told.changed.length).toBeGreaterThan(0);
    expect(told.changed.length).toBeLessThanOrEqual(500);
    catalog.apply([...gone(many[2999]!), ...is(pod('new', { ips: ['10.2.0.1'] }), { ...many[2998]!, ready: false })]);
    await vi.waitFor(() => expect(podWorkload(store, 'new')).toBeDefined());
    expect(store.size('address')).toBe(3000);
    expect(podWorkload(store, 'p2999')).toBeUndefined();
    expect([...store.all('address')].filter(({ name: one }) => !told.changed.includes(one))).toEqual([]);
    expect(podWorkload(store, 'p2998')?.authorizationPolicies).toEqual(['root/after']);
    expect(podWorkload(store, 'p2998')?.status).toBe(WorkloadStatus.UNHEALTHY);
    expect(told.changed).toHaveLength(3000);
    told.changed.length = 0;
    policy = 'root/in-place-of-one-that-is-gone';
    catalog.policiesChanged('all', true);
    expect(told.changed).toHaveLength(3000);
  });

  it("the system namespace's label names the network", () => {
    const { catalog, store } = synced([pod('a'), service('a')], { network: 'given', systemNamespace: 'istio-system' });
    expect(podWorkload(store, 'a')?.network).toBe('given');
    catalog.apply(is(namespace('istio-system', { labels: { 'topology.istio.io/network': 'net7' } })));
    expect(podWorkload(store, 'a')?.network).toBe('net7');
    expect(serviceRecord(store, 'a')?.addresses[0]?.network).toBe('net7');
    expect([...store.byAlias('given/10.0.0.1')]).toEqual([]);
    catalog.apply(gone(namespace('istio-system')));
    expect(podWorkload(store, 'a')?.network).toBe('given');
  });

  it('answers the CA', () => {
    const { catalog } = synced([
      pod('a', { serviceAccount: 'web' }),
      pod('done', { serviceAccount: 'job', phase: 'Succeeded' }),
      namespace('shop'),
      namespace('old', { terminating: true }),
      { kind: 'ServiceAccount', namespace: 'shop', name: 'web' },
    ]);
    expect(catalog.podsOnNode('node-a', 'shop', 'web')).toBe(true);
    expect(catalog.podsOnNode('node-b', 'shop', 'web')).toBe(false);
    expect(catalog.podsOnNode('node-a', 'bank', 'web')).toBe(false);
    expect(catalog.podsOnNode('node-a', 'shop', 'job')).toBe(false);
    expect(catalog.serviceAccountExists('shop', 'web')).toBe(true);
    expect(catalog.serviceAccountExists('shop', 'other')).toBe(false);
    expect(catalog.namespaces()).toEqual(['shop']);
    catalog.apply(is(pod('a', { serviceAccount: 'web', node: 'node-b' })));
    expect(catalog.podsOnNode('node-a', 'shop', 'web')).toBe(false);
    expect(catalog.podsOnNode('node-b', 'shop', 'web')).toBe(true);
    catalog.apply([...gone(pod('a')), { kind: 'ServiceAccount', key: 'shop/web', object: undefined }]);
    expect(catalog.podsOnNode('node-b', 'shop', 'web')).toBe(false);
    expect(catalog.serviceAccountExists('shop', 'web')).toBe(false);
  });
});

describe('faults', () => {
  it('an address that is none is left out and named, once', () => {
    const { catalog, store, lines } = synced([
      pod('a', { ips: ['10.0.0.300', 'fd00::1'] }),
      pod('b', { ips: ['?'] }),
      service('a', { clusterIps: ['x'] }),
    ]);
    expect(podWorkload(store, 'a')?.addresses).toHaveLength(1);
    expect(podWorkload(store, 'b')).toBeUndefined();
    expect(serviceRecord(store, 'a')?.addresses).toEqual([]);
    expect(lines.map(({ object, faults }) => [object, faults])).toEqual([
      ['Service shop/a', ['"x" is no IP address']],
      ['Pod shop/a', ['"10.0.0.300" is no IP address']],
      ['Pod shop/b', ['"?" is no IP address']],
    ]);
    catalog.apply(is(pod('a', { ips: ['10.0.0.300', 'fd00::1'], ready: false })));
    expect(lines).toHaveLength(3);
  });

  it('an object that cannot be encoded stays as it was, is named, and stops nobody else', () => {
    const endpoints = [{ addresses: ['10.9.9.9'], ready: true }];
    const { catalog, store, lines, told } = synced([slice('a', { endpoints }), service('a', { selector: {} }), pod('b')]);
    const uid = 'c1/discovery.k8s.io/EndpointSlice/shop/a/10.9.9.9';
    const before = store.get('address', uid);
    const bad = service('a', { selector: {}, ports: [{ name: '', port: -1, targetPort: 80 }] });
    catalog.apply(is(bad, pod('b', { ready: false }), pod('c', { ips: ['10.0.0.3'] })));
    expect(told.changed.splice(0)).toEqual([name('b'), name('c')]);
    expect(store.get('address', uid)).toBe(before);
    expect(lines.map(({ object }) => object)).toEqual(['Service shop/a', 'EndpointSlice shop/a']);
    expect(lines[0]?.['faults']).toEqual([expect.stringMatching(/^it stays as it was: .*-1/)]);
    catalog.apply(is(pod('c', { ips: ['10.0.0.4'] })));
    expect(told.changed).toEqual([name('c')]);
    catalog.apply(gone(bad, slice('a')));
    expect([store.get('address', host('a')), store.get('address', uid)]).toEqual([undefined, undefined]);
  });

  it('an address claimed twice is served for both and reported once; a shared one is no fault', () => {
    const { catalog, store, lines } = synced([
      pod('old', { terminating: true }),
      pod('new'),
      pod('host', { hostNetwork: true }),
      service('a'),
      service('b'),
    ]);
    expect(store.size('address')).toBe(5);
    expect(lines.map(({ address, names }) => [address, names])).toEqual([
      ['/10.96.0.1', [host('a'), host('b')]],
      ['/10.0.0.1', [name('new'), name('old')]],
    ]);
    catalog.apply(is(pod('new', { ready: false })));
    expect(lines).toHaveLength(2);
    catalog.apply(gone(pod('old')));
    expect(lines).toHaveLength(2);
    catalog.apply(is(pod('old', { terminating: true })));
    expect(lines).toHaveLength(3);
  });

  it('an address that moves from one pod to another within a batch is no fault', () => {
    const { catalog, lines } = synced([pod('a')]);
    catalog.apply([...is(pod('b')), ...gone(pod('a'))]);
    expect(lines).toEqual([]);
  });
});

describe('any changes, in any order', () => {
  const few = <T>(...values: T[]): fc.Arbitrary<T> => fc.constantFrom(...values);
  const label = fc.dictionary(few('app', 'tier', 'v'), few('1', '2'), { maxKeys: 3 });
  const names = few('a', 'b', 'c');
  const ns = few('shop', 'bank');
  const ip = few('10.0.0.1', '10.0.0.2', 'fd00::1', 'garbage');
  const pods = fc
    .record({
      n: names,
      ns,
      labels: label,
      ips: fc.array(ip, { maxLength: 2 }),
      uid: few('u1', 'u2'),
      ready: fc.boolean(),
      done: fc.boolean(),
      on: few('node-a', 'node-b', ''),
      port: few(80, 81),
    })
    .map(({ n, ns, labels, ips, uid, ready, done, on, port }): ClusterObject =>
      pod(n, { namespace: ns, labels, ips, uid, ready, phase: done ? 'Failed' : 'Running', node: on, ports: [{ name: 'http', port }] }),
    );
  const services = fc
    .record({
      n: names,
      ns,
      selector: label,
      type: few('ClusterIP', 'ExternalName'),
      target: few<number | string>(80, 'http'),
      port: few(1, 2),
    })
    .map(({ n, ns, selector, type, target, port }): ClusterObject =>
      service(n, { namespace: ns, selector, type: type as 'ClusterIP', ports: [{ name: 'p', port, targetPort: target }] }),
    );
  const target = fc.record({ kind: few('Pod', 'Node'), namespace: ns, name: names, uid: few('u1', 'u2', '') });
  const slices = fc
    .record({
      n: few('x', 'y'),
      ns,
      of: few('a', 'b', ''),
      type: few('IPv4', 'FQDN'),
      endpoints: fc.array(
        fc.record({ addresses: fc.array(ip, { maxLength: 1 }), ready: fc.boolean(), target }, { requiredKeys: ['addresses', 'ready'] }),
        { maxLength: 3 },
      ),
    })
    .map(({ n, ns, of, type, endpoints }): ClusterObject =>
      slice(n, { namespace: ns, service: of, addressType: type as 'IPv4', ports: [{ name: 'p', port: 7 }], endpoints }),
    );
  const nodes = fc
    .record({ n: few('node-a', 'node-b'), zone: few('z1', 'z2') })
    .map(({ n, zone }): ClusterObject => node(n, { 'topology.kubernetes.io/zone': zone }));
  const namespaces = fc
    .record({ n: few('shop', 'bank', 'root'), net: few('n1', 'n2'), near: few('PreferClose', 'PreferSameNode') })
    .map(({ n, net, near }): ClusterObject =>
      namespace(n, { labels: { 'topology.istio.io/network': net }, annotations: { 'networking.istio.io/traffic-distribution': near } }),
    );
  const change = fc
    .tuple(
      fc.oneof({ weight: 3, arbitrary: pods }, { weight: 2, arbitrary: services }, { weight: 2, arbitrary: slices }, nodes, namespaces),
      fc.integer({ min: 0, max: 3 }),
    )
    .map(([object, die]): ObjectChange => (die === 0 ? gone(object)[0]! : is(object)[0]!));

  it('lead to the same resources as the objects that are left, from scratch', () => {
    fc.assert(
      fc.property(
        fc.array(fc.array(change, { maxLength: 4 }), { maxLength: 12 }),
        fc.infiniteStream(fc.nat()),
        fc.nat(12),
        (batches, random, syncAt) => {
          const options = { network: 'n0', systemNamespace: 'root' };
          const live = world(options);
          const left = new Map<string, ClusterObject>();
          batches.forEach((batch, i) => {
            if (i === syncAt) live.catalog.synced();
            live.catalog.apply(batch);
            for (const { kind, key, object } of batch) {
              if (object === undefined) left.delete(`${kind} ${key}`);
              else left.set(`${kind} ${key}`, object);
            }
          });
          live.catalog.synced();
          const shuffled = [...left.values()].map((object) => ({ object, at: random.next().value as number })).sort((a, b) => a.at - b.at);
          const fresh = synced(
            shuffled.map(({ object }) => object),
            options,
          );
          expect(versions(live.store)).toEqual(versions(fresh.store));
          for (const { name: one, aliases, services: of, node: on } of fresh.store.all('address')) {
            for (const alias of aliases) expect([...live.store.byAlias(alias)]).toContain(one);
            for (const s of of) expect([...live.store.byService(s)]).toContain(one);
            if (on !== '') expect([...live.store.byNode(on)]).toContain(one);
          }
        },
      ),
      { numRuns: 300 },
    );
  });
});
