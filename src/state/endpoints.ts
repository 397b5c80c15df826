/**
 * The workloads behind each service, by what the workloads themselves say. A service's list is made when it is first asked for, and
 * kept up from then on: most services of a mesh are never dialled from this node.
 */
import { placeOf } from './sorted.ts';
import type { Endpoint, PortMap, Service, Workload } from './workload.ts';

interface List {
  /** the record that the list was made for */
  service: Service;
  /** by uid, so that it does not depend on who arrived first */
  endpoints: Endpoint[];
}

export class EndpointIndex {
  /** service key → uid → workload, also for services that nobody has told us of */
  readonly #members = new Map<string, Map<string, Workload>>();
  /** by service key */
  readonly #lists = new Map<string, List>();

  add(workload: Workload): void {
    for (const key of workload.services.keys()) {
      const members = this.#members.get(key);
      if (members === undefined) this.#members.set(key, new Map([[workload.uid, workload]]));
      else members.set(workload.uid, workload);
      const list = this.#lists.get(key);
      if (list === undefined || !accepts(list.service, workload)) continue;
      const endpoint = endpointOf(list.service, workload);
      list.endpoints.splice(placeOf(list.endpoints, endpoint, byUid), 0, endpoint);
    }
  }

  /** @param workload the very object that was added */
  remove(workload: Workload): void {
    for (const key of workload.services.keys()) {
      const members = this.#members.get(key);
      members?.delete(workload.uid);
      if (members?.size === 0) this.#members.delete(key);
      const list = this.#lists.get(key);
      if (list === undefined || !accepts(list.service, workload)) continue;
      list.endpoints.splice(placeOf(list.endpoints, { workload, ports: new Map() }, byUid), 1);
    }
  }

  /** The service is known no more, or by another record; its workloads stay. */
  forget(key: string): void {
    this.#lists.delete(key);
  }

  /** Good until the next change. @param service the record that is known now */
  of(service: Service): readonly Endpoint[] {
    const known = this.#lists.get(service.key);
    if (known?.service === service) return known.endpoints;
    const endpoints = [...(this.#members.get(service.key)?.values() ?? [])]
      .filter((workload) => accepts(service, workload))
      .map((workload) => endpointOf(service, workload))
      .sort(byUid);
    this.#lists.set(service.key, { service, endpoints });
    return endpoints;
  }
}

function accepts(service: Service, workload: Workload): boolean {
  return workload.healthy || service.allowUnhealthy;
}

function endpointOf(service: Service, workload: Workload): Endpoint {
  return { workload, ports: portsOf(service, workload) };
}

function byUid(a: Endpoint, b: Endpoint): number {
  if (a.workload.uid === b.workload.uid) return 0;
  return a.workload.uid < b.workload.uid ? -1 : 1;
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
