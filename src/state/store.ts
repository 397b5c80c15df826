/**
 * Everything known about the mesh, indexed for routing and changed in place: one pod's change costs one pod, however many there
 * are. What it holds depends only on what is known, never on the order in which it came.
 */
import { isDeepStrictEqual } from 'node:util';
import type { SocketAddress } from './address.ts';
import { Claims } from './claims.ts';
import { EndpointIndex, portsOf } from './endpoints.ts';
import type { Endpoint, Policy, Service, StateDelta, Workload, WorkloadId } from './workload.ts';

export interface StateOptions {
  /** workloads of this node alone are found by their id; undefined: all are */
  node?: string;
  /** of this node: workloads of others are known, but neither dialled nor endpoints. Default: the network without a name */
  network?: string;
}

export type StateListener = (change: StateDelta) => void;

export class StateStore {
  readonly network: string;
  readonly #node: string | undefined;
  readonly #workloads = new Map<string, Workload>();
  readonly #services = new Map<string, Service>();
  readonly #policies = new Map<string, Policy>();
  readonly #local = new Map<string, Workload>();
  readonly #byIp = new Claims<Workload>(claimsBefore);
  /** of this node only: elsewhere another cluster may have a pod of the same name */
  readonly #byId = new Claims<Workload>(claimsBefore);
  readonly #byVip = new Claims<Service>(answersBefore);
  readonly #endpoints = new EndpointIndex();
  readonly #listeners = new Set<StateListener>();
  /** by id: who waits for a workload */
  readonly #waiting = new Map<string, Set<() => void>>();

  constructor(options: StateOptions = {}) {
    this.#node = options.node;
    this.network = options.network ?? '';
  }

  /** Listeners hear once of what really changed: what is the same as before, or was not known anyway, is left out. */
  apply(delta: StateDelta): void {
    const removed = {
      workloads: delta.removed.workloads.filter((uid) => this.#removeWorkload(uid)),
      services: delta.removed.services.filter((key) => this.#removeService(key)),
      policies: delta.removed.policies.filter((key) => this.#policies.delete(key)),
    };
    const change: StateDelta = {
      workloads: delta.workloads.filter((workload) => this.#putWorkload(workload)),
      services: delta.services.filter((service) => this.#putService(service)),
      policies: delta.policies.filter((policy) => this.#putPolicy(policy)),
      removed,
    };
    if (isEmpty(change)) return;
    for (const workload of change.workloads) for (const wake of [...(this.#waiting.get(idKey(workload)) ?? [])]) wake();
    for (const listener of [...this.#listeners]) listener(change);
  }

  /** The whole mesh anew; what is not in it is gone. */
  replace(whole: Pick<StateDelta, 'workloads' | 'services' | 'policies'>): void {
    const uids = new Set(whole.workloads.map(({ uid }) => uid));
    const services = new Set(whole.services.map(({ key }) => key));
    const policies = new Set(whole.policies.map(({ key }) => key));
    this.apply({
      ...whole,
      removed: {
        workloads: [...this.#workloads.keys()].filter((uid) => !uids.has(uid)),
        services: [...this.#services.keys()].filter((key) => !services.has(key)),
        policies: [...this.#policies.keys()].filter((key) => !policies.has(key)),
      },
    });
  }

  workloads(): Iterable<Workload> {
    return this.#workloads.values();
  }

  isLocal(workload: Workload): boolean {
    return this.#node === undefined || workload.node === this.#node;
  }

  /** Those of this node. */
  localWorkloads(): Iterable<Workload> {
    return this.#local.values();
  }

  services(): Iterable<Service> {
    return this.#services.values();
  }

  policies(): Iterable<Policy> {
    return this.#policies.values();
  }

  workload(uid: string): Workload | undefined {
    return this.#workloads.get(uid);
  }

  service(key: string): Service | undefined {
    return this.#services.get(key);
  }

  policy(key: string): Policy | undefined {
    return this.#policies.get(key);
  }

  /** Whose own address it is. A node's is that of all its host-network workloads and so nobody's, as for ztunnel. */
  byIp(ip: string): Workload | undefined {
    return this.#byIp.first(ip);
  }

  /** A workload of this node. @param uid decides when two generations of one pod are both still known */
  byId(id: WorkloadId, uid?: string): Workload | undefined {
    const found = this.#byId.all(idKey(id));
    return found.find((workload) => workload.uid === uid) ?? found[0];
  }

  /** The service that answers on a virtual address: of the caller's own namespace first. Its ports are not looked at. */
  byVip(vip: string, callerNamespace: string): Service | undefined {
    const found = this.#byVip.all(vip);
    return found.find((service) => service.namespace === callerNamespace) ?? found[0];
  }

  /** Workloads of our network that may take the service's connections, and where each of its ports leads on them. */
  endpointsOf(service: Service): readonly Endpoint[] {
    return this.#endpoints.of(service);
  }

  /** Known services of which this workload is an endpoint, healthy or not. */
  servicesOf(workload: Workload): Service[] {
    const services: Service[] = [];
    for (const key of workload.services.keys()) {
      const service = this.#services.get(key);
      if (service !== undefined) services.push(service);
    }
    return services;
  }

  /** The service that a connection to a workload's own address most likely meant, for logs only. */
  serviceFor(workload: Workload, target: SocketAddress): Service | undefined {
    return this.servicesOf(workload).find((service) => [...portsOf(service, workload).values()].includes(target.port));
  }

  /** Called after every change, with it. */
  onChange(listener: StateListener): { close(): void } {
    this.#listeners.add(listener);
    return { close: () => this.#listeners.delete(listener) };
  }

  /** Resolves undefined when the workload has not appeared within `timeoutMs`, if any, or `signal` aborts. Never rejects. */
  waitFor(id: WorkloadId, uid: string, timeoutMs: number | undefined, signal?: AbortSignal): Promise<Workload | undefined> {
    const found = this.byId(id, uid);
    if (found !== undefined) return Promise.resolve(found);
    if (signal?.aborted === true) return Promise.resolve(undefined);
    return new Promise((resolve) => {
      const key = idKey(id);
      const settle = (): void => {
        clearTimeout(timer);
        signal?.removeEventListener('abort', settle);
        const waiting = this.#waiting.get(key);
        waiting?.delete(arrived);
        if (waiting?.size === 0) this.#waiting.delete(key);
        resolve(this.byId(id, uid));
      };
      const arrived = (): void => {
        if (this.byId(id, uid) !== undefined) settle();
      };
      const timer = timeoutMs === undefined ? undefined : setTimeout(settle, timeoutMs);
      signal?.addEventListener('abort', settle, { once: true });
      const waiting = this.#waiting.get(key);
      if (waiting === undefined) this.#waiting.set(key, new Set([arrived]));
      else waiting.add(arrived);
    });
  }

  /** @returns whether it changes anything */
  #putWorkload(workload: Workload): boolean {
    const before = this.#workloads.get(workload.uid);
    if (before !== undefined && isDeepStrictEqual(before, workload)) return false;
    this.#removeWorkload(workload.uid);
    this.#workloads.set(workload.uid, workload);
    if (this.isLocal(workload)) {
      this.#local.set(workload.uid, workload);
      this.#byId.add(idKey(workload), workload);
    }
    if (workload.network !== this.network) return true;
    if (!workload.hostNetwork) for (const ip of workload.ips) this.#byIp.add(ip, workload);
    if (workload.ips.length > 0) this.#endpoints.add(workload);
    return true;
  }

  #removeWorkload(uid: string): boolean {
    const workload = this.#workloads.get(uid);
    if (workload === undefined) return false;
    this.#workloads.delete(uid);
    if (this.isLocal(workload)) {
      this.#local.delete(uid);
      this.#byId.remove(idKey(workload), workload);
    }
    if (workload.network !== this.network) return true;
    if (!workload.hostNetwork) for (const ip of workload.ips) this.#byIp.remove(ip, workload);
    if (workload.ips.length > 0) this.#endpoints.remove(workload);
    return true;
  }

  #putService(service: Service): boolean {
    const before = this.#services.get(service.key);
    if (before !== undefined && isDeepStrictEqual(before, service)) return false;
    this.#removeService(service.key);
    this.#services.set(service.key, service);
    for (const vip of service.vips) this.#byVip.add(vip, service);
    return true;
  }

  #removeService(key: string): boolean {
    const service = this.#services.get(key);
    if (service === undefined) return false;
    this.#services.delete(key);
    for (const vip of service.vips) this.#byVip.remove(vip, service);
    this.#endpoints.forget(key);
    return true;
  }

  #putPolicy(policy: Policy): boolean {
    if (isDeepStrictEqual(this.#policies.get(policy.key), policy)) return false;
    this.#policies.set(policy.key, policy);
    return true;
  }
}

/**
 * Of several workloads with one address the one that is most likely behind it: a pod before what somebody merely declared, as
 * ztunnel has it; then the healthy one, because of two pods with one address the older has ended; then the captured one.
 */
function claimsBefore(a: Workload, b: Workload): number {
  return standing(b) - standing(a) || (a.uid < b.uid ? -1 : 1);
}

function standing({ uid, healthy, protocol }: Workload): number {
  return (uid.includes('//Pod/') ? 4 : 0) + (healthy ? 2 : 0) + (protocol === 'HBONE' ? 1 : 0);
}

function answersBefore(a: Service, b: Service): number {
  return Number(b.canonical) - Number(a.canonical) || (a.key < b.key ? -1 : 1);
}

function idKey(id: WorkloadId): string {
  return `${id.namespace}/${id.name}/${id.serviceAccount}`;
}

function isEmpty({ workloads, services, policies, removed }: StateDelta): boolean {
  return [workloads, services, policies, removed.workloads, removed.services, removed.policies].every((list) => list.length === 0);
}
