/** Whatever the order in which changes come, the state is that of a plain list searched from end to end. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { StateStore } from '../../../src/state/store.ts';
import type { Policy, Service, StateDelta, Workload } from '../../../src/state/workload.ts';
import { delta, policy, service, workload } from '../../support/state.ts';

const ips = ['10.0.0.1', '10.0.0.2', 'fd00::1'];
const vips = ['10.96.0.1', '10.96.0.2'];
const namespaces = ['shop', 'other'];
const names = ['a', 'b', 'c'];
const uids = ['1', 'c//Pod/shop/a', 'c//Pod/shop/b', 'z'];
const hosts = ['web', 'api'];
const key = (namespace: string, host: string) => `${namespace}/${host}.${namespace}.svc.cluster.local`;
const keys = namespaces.flatMap((namespace) => hosts.map((host) => key(namespace, host)));
const policies = ['shop/p', 'other/q'];

const ports = fc.dictionary(fc.constantFrom('80', '443'), fc.constantFrom(0, 8080, 9090)).map((all) => portMap(all));
const workloads: fc.Arbitrary<Workload> = fc
  .record({
    uid: fc.constantFrom(...uids),
    name: fc.constantFrom(...names),
    namespace: fc.constantFrom(...namespaces),
    node: fc.constantFrom('node1', 'node2'),
    network: fc.constantFrom('', '', 'far'),
    ips: fc.uniqueArray(fc.constantFrom(...ips), { maxLength: 2 }),
    healthy: fc.boolean(),
    hostNetwork: fc.boolean(),
    protocol: fc.constantFrom('HBONE' as const, 'TCP' as const),
    services: fc.uniqueArray(fc.tuple(fc.constantFrom(...keys), ports), { selector: ([one]) => one, maxLength: 3 }),
  })
  .map(({ name, services, ...rest }) => workload(name, '', { ...rest, services: new Map(services) }));
const services: fc.Arbitrary<Service> = fc
  .record({
    namespace: fc.constantFrom(...namespaces),
    name: fc.constantFrom(...hosts),
    vips: fc.uniqueArray(fc.constantFrom(...vips)),
    ports,
    allowUnhealthy: fc.boolean(),
    canonical: fc.boolean(),
  })
  .map((one) => service(one));
const changes: fc.Arbitrary<StateDelta> = fc
  .record({
    workloads: fc.uniqueArray(workloads, { selector: ({ uid }) => uid, maxLength: 2 }),
    services: fc.uniqueArray(services, { selector: (one) => one.key, maxLength: 2 }),
    policies: fc.subarray(policies),
    goneWorkloads: fc.subarray(uids),
    goneServices: fc.subarray(keys),
    gonePolicies: fc.subarray(policies),
  })
  .map((one) => {
    const put = new Set([...one.workloads.map(({ uid }) => uid), ...one.services.map((other) => other.key), ...one.policies]);
    const gone = (all: string[]) => all.filter((name) => !put.has(name));
    return delta({
      workloads: one.workloads,
      services: one.services,
      policies: one.policies.map((name) => policy(name)),
      removed: { workloads: gone(one.goneWorkloads), services: gone(one.goneServices), policies: gone(one.gonePolicies) },
    });
  });

function portMap(all: Record<string, number>): Map<number, number> {
  return new Map(Object.entries(all).map(([port, target]) => [Number(port), target]));
}

/** What is known at the end, in plain lists. */
class Model {
  workloads = new Map<string, Workload>();
  services = new Map<string, Service>();
  policies = new Map<string, Policy>();

  apply(change: StateDelta): void {
    for (const uid of change.removed.workloads) this.workloads.delete(uid);
    for (const one of change.removed.services) this.services.delete(one);
    for (const one of change.removed.policies) this.policies.delete(one);
    for (const one of change.workloads) this.workloads.set(one.uid, one);
    for (const one of change.services) this.services.set(one.key, one);
    for (const one of change.policies) this.policies.set(one.key, one);
  }

  /** Every reader's answer to every question. */
  answers(): unknown {
    const known = [...this.workloads.values()];
    const near = known.filter(({ network }) => network === '');
    const best = (found: Workload[]): Workload | undefined => found.sort(before)[0];
    const vip = (ip: string, namespace: string): Service | undefined => {
      const found = [...this.services.values()].filter((one) => one.vips.includes(ip));
      found.sort((a, b) => Number(b.canonical) - Number(a.canonical) || a.key.localeCompare(b.key, 'en'));
      return found.find((one) => one.namespace === namespace) ?? found[0];
    };
    return {
      all: sorted([...this.workloads.keys(), ...this.services.keys(), ...this.policies.keys()]),
      local: sorted(known.filter(({ node }) => node === 'node1').map(({ uid }) => uid)),
      byIp: ips.map((ip) => best(near.filter((one) => !one.hostNetwork && one.ips.includes(ip)))?.uid),
      byId: ids((namespace, name) => {
        const found = known.filter((one) => one.node === 'node1' && one.name === name && one.namespace === namespace);
        return [best(found)?.uid, found.find(({ uid }) => uid === uids[2])?.uid ?? best(found)?.uid];
      }),
      byVip: vips.map((ip) => [vip(ip, 'shop')?.key, vip(ip, 'other')?.key, vip(ip, '')?.key]),
      endpoints: keys.map((one) => {
        const found = this.services.get(one);
        if (found === undefined) return [];
        const behind = near.filter((each) => each.services.has(one) && each.ips.length > 0 && (each.healthy || found.allowUnhealthy));
        behind.sort((a, b) => (a.uid < b.uid ? -1 : 1));
        return behind.map((each) => [each.uid, ...targets(found, each)]);
      }),
      servicesOf: sorted(known.map(({ uid, services: of }) => `${uid}: ${[...of.keys()].filter((one) => this.services.has(one)).join()}`)),
      serviceFor: sorted(
        known.map((one) => {
          const meant = [...one.services.keys()].find((name) => {
            const found = this.services.get(name);
            return found !== undefined && targets(found, one).some(([, target]) => target === 8080);
          });
          return `${one.uid}: ${meant ?? ''}`;
        }),
      ),
    };
  }
}

function answersOf(store: StateStore): unknown {
  return {
    all: sorted([
      ...Array.from(store.workloads(), ({ uid }) => uid),
      ...Array.from(store.services(), (one) => one.key),
      ...Array.from(store.policies(), (one) => one.key),
    ]),
    local: sorted(Array.from(store.localWorkloads(), ({ uid }) => uid)),
    byIp: ips.map((ip) => store.byIp(ip)?.uid),
    byId: ids((namespace, name) => {
      const id = { namespace, name, serviceAccount: name };
      return [store.byId(id)?.uid, store.byId(id, uids[2])?.uid];
    }),
    byVip: vips.map((ip) => [store.byVip(ip, 'shop')?.key, store.byVip(ip, 'other')?.key, store.byVip(ip, '')?.key]),
    endpoints: keys.map((one) => {
      const found = store.service(one);
      return found === undefined ? [] : store.endpointsOf(found).map(({ workload: { uid }, ports: to }) => [uid, ...to]);
    }),
    servicesOf: sorted(
      Array.from(store.workloads(), (one) => `${one.uid}: ${store.servicesOf(one).map((found) => found.key).join()}`), // prettier-ignore
    ),
    serviceFor: sorted(Array.from(store.workloads(), (one) => `${one.uid}: ${store.serviceFor(one, { ip: '', port: 8080 })?.key ?? ''}`)),
  };
}

function targets(of: Service, one: Workload): [number, number][] {
  const own = one.services.get(of.key);
  return [...of.ports].map(([port, target]): [number, number] => [port, own?.get(port) || target]).filter(([, target]) => target !== 0);
}

/** The order of preference, written down a second time. */
function before(a: Workload, b: Workload): number {
  const rank = (one: Workload): boolean[] => [one.uid.includes('//Pod/'), one.healthy, one.protocol === 'HBONE'];
  const [ranksOfA, ranksOfB] = [rank(a), rank(b)];
  for (const [index, mine] of ranksOfA.entries()) if (mine !== ranksOfB[index]) return mine ? -1 : 1;
  return a.uid < b.uid ? -1 : 1;
}

function ids<T>(ask: (namespace: string, name: string) => T): T[] {
  return namespaces.flatMap((namespace) => names.map((name) => ask(namespace, name)));
}

const sorted = (all: string[]): string[] => all.toSorted();

describe('state', () => {
  it('is the same after any sequence of changes as after its outcome at once, in any order', () => {
    fc.assert(
      fc.property(fc.array(changes, { maxLength: 12 }), fc.func(fc.integer()), (sequence, shuffle) => {
        const model = new Model();
        const store = new StateStore({ node: 'node1' });
        const heard = new Model();
        store.onChange((change) => heard.apply(change));
        for (const change of sequence) {
          model.apply(change);
          store.apply(change);
          expect(answersOf(store)).toEqual(model.answers());
        }
        // Who only listens knows the same.
        expect(heard.answers()).toEqual(model.answers());
        const mixed = <T>(all: Iterable<T>): T[] => [...all].sort((a, b) => shuffle(a, b));
        const whole = {
          workloads: mixed(model.workloads.values()),
          services: mixed(model.services.values()),
          policies: mixed(model.policies.values()),
        };
        const fresh = new StateStore({ node: 'node1' });
        fresh.apply(delta(whole));
        expect(answersOf(fresh)).toEqual(model.answers());
        const replaced = new StateStore({ node: 'node1' });
        for (const change of sequence.slice(0, 3)) replaced.apply(change);
        replaced.replace(whole);
        expect(answersOf(replaced)).toEqual(model.answers());
      }),
      { numRuns: 300 },
    );
  });
});
