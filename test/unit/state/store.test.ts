import { describe, expect, it } from 'vitest';
import { StateStore } from '../../../src/state/store.ts';
import type { Service, StateDelta, Workload } from '../../../src/state/workload.ts';
import { delta, endpointOf, policy, service, workload } from '../../support/state.ts';

function storeOf(workloads: Workload[], services: Service[] = [], options = {}): StateStore {
  const store = new StateStore(options);
  store.apply(delta({ workloads, services }));
  return store;
}

/** Both orders of arrival must come to the same. */
function eitherWay(workloads: Workload[], check: (store: StateStore) => void): void {
  check(storeOf(workloads));
  check(storeOf(workloads.toReversed()));
}

describe('workloads with one address', () => {
  it('are not those of the host network: its address is their node', () => {
    const host = workload('a-host', '10.0.0.1', { hostNetwork: true, ...endpointOf() });
    eitherWay([host, workload('own', '10.0.0.1', { healthy: false, protocol: 'TCP' })], (store) =>
      expect(store.byIp('10.0.0.1')?.name).toBe('own'),
    );
    const store = storeOf([host, workload('b-host', '10.0.0.1', { hostNetwork: true })], [service()]);
    expect(store.byIp('10.0.0.1')).toBeUndefined();
    expect(store.endpointsOf(store.byVip('10.96.0.1', 'shop')!)).toMatchObject([{ workload: { name: 'a-host' } }]);
  });

  it('prefer the pod, then the healthy one, then the captured one', () => {
    const entry = workload('a', '10.0.0.1', { uid: 'c/networking.istio.io/WorkloadEntry/shop/a' });
    const ended = workload('b', '10.0.0.1', { uid: 'c//Pod/shop/b', healthy: false });
    const fresh = workload('c', '10.0.0.1', { uid: 'c//Pod/shop/c', protocol: 'TCP' });
    const captured = workload('d', '10.0.0.1', { uid: 'c//Pod/shop/d' });
    eitherWay([entry, ended], (store) => expect(store.byIp('10.0.0.1')?.name).toBe('b'));
    eitherWay([ended, fresh], (store) => expect(store.byIp('10.0.0.1')?.name).toBe('c'));
    eitherWay([fresh, captured], (store) => expect(store.byIp('10.0.0.1')?.name).toBe('d'));
  });

  it('leave the other one findable when one of them goes', () => {
    const [old, fresh] = [workload('old', '10.0.0.1'), workload('new', '10.0.0.1')];
    for (const [gone, stays] of [
      [old, fresh],
      [fresh, old],
    ] as const) {
      const store = storeOf([old, fresh]);
      store.apply(delta({ removed: { workloads: [gone.uid] } }));
      expect(store.byIp('10.0.0.1')).toBe(stays);
    }
  });

  it('are forgotten at an address that they have left', () => {
    const store = storeOf([workload('a', '10.0.0.1')]);
    store.apply(delta({ workloads: [workload('a', '10.0.0.2')] }));
    expect(store.byIp('10.0.0.1')).toBeUndefined();
    expect(store.byIp('10.0.0.2')?.name).toBe('a');
  });
});

describe('services', () => {
  it("with one address: the caller's namespace, then the canonical one, then by key", () => {
    const entry = service({ namespace: 'aaa', canonical: false });
    const [shop, other] = [service(), service({ namespace: 'other' })];
    for (const services of [
      [entry, other, shop],
      [shop, entry, other],
    ]) {
      const store = storeOf([], services);
      expect(store.byVip('10.96.0.1', 'aaa')).toBe(entry);
      expect(store.byVip('10.96.0.1', 'shop')).toBe(shop);
      expect(store.byVip('10.96.0.1', 'third')).toBe(other);
      store.apply(delta({ removed: { services: [other.key] } }));
      expect(store.byVip('10.96.0.1', 'third')).toBe(shop);
    }
  });

  it('get endpoints that were there before them, and again after they came back', () => {
    const web = service();
    const store = storeOf([workload('a', '10.0.0.1', endpointOf())]);
    const names = (one: Service) => store.endpointsOf(one).map(({ workload: { name } }) => name);
    expect(store.servicesOf(store.byIp('10.0.0.1')!)).toEqual([]);
    store.apply(delta({ services: [web] }));
    expect(names(web)).toEqual(['a']);
    store.apply(delta({ removed: { services: [web.key] } }));
    expect(store.servicesOf(store.byIp('10.0.0.1')!)).toEqual([]);
    const again = service({ ports: new Map([[80, 9090]]) });
    store.apply(delta({ services: [again] }));
    expect(store.endpointsOf(again)[0]?.ports).toEqual(new Map([[80, 8080]]));
  });

  it('leave to the workload where a port leads, and fill in what it does not say', () => {
    const web = service({ ports: new Map([[80, 8080], [443, 0], [9, 9], [8, 0]]) }); // prettier-ignore
    const own = new Map([[80, 0], [443, 8443], [7, 7]]); // prettier-ignore
    const store = storeOf([workload('a', '10.0.0.1', endpointOf(web.key, own))], [web]);
    expect(store.endpointsOf(web)[0]?.ports).toEqual(new Map([[80, 8080], [443, 8443], [9, 9]])); // prettier-ignore
    const of = (port: number) => store.serviceFor(store.byIp('10.0.0.1')!, { ip: '10.0.0.1', port });
    expect(of(8443)).toBe(web);
    expect(of(7)).toBeUndefined();
  });

  it('have healthy endpoints of our network only, unless they take the sick as well', () => {
    const workloads = [
      workload('b', '10.0.0.2', endpointOf()),
      workload('a', '10.0.0.1', endpointOf()),
      workload('sick', '10.0.0.3', { healthy: false, ...endpointOf() }),
      workload('far', '10.0.0.4', { network: 'far', ...endpointOf() }),
      workload('nowhere', '', { ips: [], ...endpointOf() }),
    ];
    const store = storeOf(workloads, [service()]);
    const names = () => store.endpointsOf(store.byVip('10.96.0.1', 'shop')!).map(({ workload: { name } }) => name);
    expect(names()).toEqual(['a', 'b']);
    expect(store.byIp('10.0.0.4')).toBeUndefined();
    expect(store.workload('uid-far')).toBeDefined();
    store.apply(delta({ services: [service({ allowUnhealthy: true })] }));
    expect(names()).toEqual(['a', 'b', 'sick']);
    store.apply(delta({ workloads: [workload('a', '10.0.0.1', { healthy: true })] }));
    expect(names()).toEqual(['b', 'sick']);
  });
});

describe('this node', () => {
  const id = { namespace: 'shop', name: 'a', serviceAccount: 'a' };

  it('finds its own workloads by id, whatever another cluster calls its pods', () => {
    const far = workload('a', '10.0.0.1', { uid: 'a-far', node: 'node2' });
    const store = storeOf([far], [], { node: 'node1' });
    expect(store.byId(id)).toBeUndefined();
    store.apply(delta({ workloads: [workload('a', '10.0.0.2')] }));
    expect(store.byId(id)?.uid).toBe('uid-a');
    expect([...store.localWorkloads()].map(({ uid }) => uid)).toEqual(['uid-a']);
    expect([...store.workloads()]).toHaveLength(2);
  });

  it('tells generations of one pod apart by uid', () => {
    const store = storeOf([workload('a', '10.0.0.1', { uid: 'old' }), workload('a', '10.0.0.2', { uid: 'new' })]);
    expect(store.byId(id, 'old')?.uid).toBe('old');
    expect(store.byId(id, 'unknown')?.uid).toBe('new');
    expect(store.byId({ ...id, serviceAccount: 'other' })).toBeUndefined();
  });
});

describe('changes', () => {
  it('are told once and only what they are', () => {
    const store = storeOf([workload('a', '10.0.0.1'), workload('b', '10.0.0.2')], [service()]);
    const changes: StateDelta[] = [];
    const watch = store.onChange((change) => changes.push(change));
    store.apply(delta({ workloads: [workload('a', '10.0.0.1')], services: [service()], removed: { workloads: ['nobody'] } }));
    expect(changes).toEqual([]);
    const changed = workload('a', '10.0.0.3');
    store.apply(
      delta({ workloads: [changed], policies: [policy('shop/deny')], removed: { workloads: ['uid-b', 'nobody'], policies: ['x/y'] } }),
    );
    expect(changes).toEqual([delta({ workloads: [changed], policies: [policy('shop/deny')], removed: { workloads: ['uid-b'] } })]);
    store.apply(delta({ policies: [policy('shop/deny')] }));
    watch.close();
    store.apply(delta({ removed: { policies: ['shop/deny'] } }));
    expect(changes).toHaveLength(1);
    expect([...store.policies()]).toEqual([]);
  });

  it('of the whole mesh are its differences', () => {
    const store = storeOf([workload('a', '10.0.0.1'), workload('b', '10.0.0.2')], [service()]);
    const changes: StateDelta[] = [];
    store.onChange((change) => changes.push(change));
    const whole = { workloads: [workload('a', '10.0.0.1'), workload('c', '10.0.0.3')], services: [service()], policies: [] };
    store.replace(whole);
    store.replace(structuredClone(whole));
    expect(changes).toEqual([delta({ workloads: [workload('c', '10.0.0.3')], removed: { workloads: ['uid-b'] } })]);
  });
});

describe('waiting', () => {
  const id = { namespace: 'shop', name: 'a', serviceAccount: 'a' };

  it('ends when the workload is there', async () => {
    const store = new StateStore();
    const waiting = [store.waitFor(id, 'uid-a', 5000), store.waitFor(id, 'uid-a', undefined)];
    store.apply(delta({ workloads: [workload('b', '10.0.0.2')] }));
    store.apply(delta({ workloads: [workload('a', '10.0.0.1')] }));
    expect((await Promise.all(waiting)).map((one) => one?.name)).toEqual(['a', 'a']);
    expect((await store.waitFor(id, 'uid-a', undefined))?.name).toBe('a');
  });

  it('ends after the time, or when told to', async () => {
    const store = new StateStore();
    expect(await store.waitFor(id, '', 10)).toBeUndefined();
    const abort = new AbortController();
    const waiting = store.waitFor(id, '', undefined, abort.signal);
    abort.abort();
    expect(await waiting).toBeUndefined();
    expect(await store.waitFor(id, '', 60_000, abort.signal)).toBeUndefined();
  });
});
