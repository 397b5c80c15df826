/**
 * The workloads behind each service, by what the workloads themselves say. A service's list is made when it is asked for and kept
 * until one of its workloads changes: most services of a mesh are never dialled from this node.
 */
import type { Endpoint, PortMap, Service, Workload } from './workload.ts';

export class EndpointIndex {
  /** service key → uid → workload, also for services that nobody has told us of */
  readonly #members = new Map<string, Map<string, Workload>>();
  /** by service key; good for exactly this record of the service */
  readonly #lists = new Map<string, { service: Service; endpoints: readonly Endpoint[] }>();

  add(workload: Workload): void {
    for (const key of workload.services.keys()) {
      const members = this.#members.get(key);
      if (members === undefined) this.#members.set(key, new Map([[workload.uid, workload]]));
      else members.set(workload.uid, workload);
      this.#lists.delete(key);
    }
  }

  remove(workload: Workload): void {
    for (const key of workload.services.keys()) {
      const members = this.#members.get(key);
      members?.delete(workload.uid);
      if (members?.size === 0) this.#members.delete(key);
      this.#lists.delete(key);
    }
  }

  /** The service is known no more; its workloads may outlive it. */
  forget(key: string): void {
    this.#lists.delete(key);
  }

  /** In the order of their uids, so that it does not depend on who arrived first. */
  of(service: Service): readonly Endpoint[] {
    const list = this.#lists.get(service.key);
    if (list?.service === service) return list.endpoints;
    const endpoints = [...(this.#members.get(service.key)?.values() ?? [])]
      .filter((workload) => workload.healthy || service.allowUnhealthy)
      .sort((a, b) => (a.uid < b.uid ? -1 : 1))
      .map((workload) => ({ workload, ports: portsOf(service, workload) }));
    this.#lists.set(service.key, { service, endpoints });
    return endpoints;
  }
}

/** The service says which ports there are; the workload where each of them leads, and where it does not, the service again. */
export function portsOf(service: Service, workload: Workload): PortMap {
  const own = workload.services.get(service.key);
  const ports = new Map<number, number>();
  for (const [port, target] of service.ports) {
    const chosen = own?.get(port) || target;
    if (chosen > 0) ports.set(port, chosen);
  }
  return ports;
}
