/** Everything known about the mesh at one moment, indexed for routing. Immutable: a change is a whole new snapshot. */
import type { SocketAddress } from './address.ts';
import type { Service, Workload, WorkloadId } from './workload.ts';

export class StateSnapshot {
  readonly trustDomain: string;
  readonly workloads: readonly Workload[];
  readonly services: readonly Service[];
  readonly #byIp = new Map<string, Workload>();
  readonly #byId = new Map<string, Workload[]>();
  /** vip → services; more than one only when two services claim an address */
  readonly #byVip = new Map<string, Service[]>();
  readonly #servicesOf = new Map<Workload, Service[]>();

  constructor(trustDomain: string, workloads: readonly Workload[], services: readonly Service[]) {
    this.trustDomain = trustDomain;
    this.workloads = workloads;
    this.services = services;
    for (const workload of workloads) {
      push(this.#byId, idKey(workload), workload);
      for (const ip of workload.ips) {
        const other = this.#byIp.get(ip);
        // A host-network workload shares the node's address: it never hides a workload whose own address it is.
        if (other === undefined || other.hostNetwork) this.#byIp.set(ip, workload);
      }
    }
    for (const service of services) {
      for (const vip of service.vips) push(this.#byVip, vip, service);
      for (const endpoint of service.endpoints) push(this.#servicesOf, endpoint.workload, service);
    }
  }

  byIp(ip: string): Workload | undefined {
    return this.#byIp.get(ip);
  }

  /** @param uid decides when two generations of one pod are both still known */
  byId(id: WorkloadId, uid?: string): Workload | undefined {
    const found = this.#byId.get(idKey(id));
    return found?.find((workload) => workload.uid === uid) ?? found?.at(-1);
  }

  /** The service that answers on a virtual address: of the caller's own namespace first. Its ports are not looked at. */
  byVip(vip: string, callerNamespace: string): Service | undefined {
    const found = this.#byVip.get(vip);
    return found?.find((service) => service.namespace === callerNamespace) ?? found?.[0];
  }

  /** Services of which this workload is an endpoint. */
  servicesOf(workload: Workload): readonly Service[] {
    return this.#servicesOf.get(workload) ?? [];
  }

  /** The service that a connection to a workload's own address most likely meant, for logs only. */
  serviceFor(workload: Workload, target: SocketAddress): Service | undefined {
    return this.servicesOf(workload).find((service) => [...service.ports.values()].includes(target.port));
  }
}

function idKey(id: WorkloadId): string {
  return `${id.namespace}/${id.name}/${id.serviceAccount}`;
}

function push<K, V>(index: Map<K, V[]>, key: K, value: V): void {
  const values = index.get(key);
  if (values === undefined) index.set(key, [value]);
  else values.push(value);
}
