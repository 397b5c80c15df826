/** Where an outbound connection goes: a decision over the state as it is, nothing is changed or asked for. */
import { familyOf, type SocketAddress } from '../state/address.ts';
import type { StateStore } from '../state/store.ts';
import type { Service, Workload } from '../state/workload.ts';
import { HBONE_PORT } from './ports.ts';

export type Route =
  /** mTLS to `hop`, CONNECT to `target`, expecting `workload`'s identity */
  | { kind: 'hbone'; hop: SocketAddress; target: SocketAddress; workload: Workload; service: Service | undefined }
  /** plain TCP; workload undefined when nobody knows the address */
  | { kind: 'tcp'; target: SocketAddress; workload: Workload | undefined; service: Service | undefined }
  /** a known service, but nobody serves it */
  | { kind: 'none'; service: Service };

/** Chooses the n-th of a service's endpoints, each service with a counter of its own. */
export class RoundRobin {
  readonly #next = new Map<string, number>();

  choose<T>(key: string, candidates: readonly T[]): T | undefined {
    if (candidates.length === 0) return undefined;
    const turn = this.#next.get(key) ?? 0;
    this.#next.set(key, (turn + 1) % Number.MAX_SAFE_INTEGER);
    return candidates[turn % candidates.length];
  }
}

/** @param destination the address and port that the application dialled */
export function routeOutbound(state: StateStore, source: Workload, destination: SocketAddress, turns: RoundRobin): Route {
  const service = state.byVip(destination.ip, source.namespace);
  if (service !== undefined) return routeService(state, service, destination, turns);
  const workload = state.byIp(destination.ip);
  return toWorkload(workload, destination, undefined);
}

function routeService(state: StateStore, service: Service, dialled: SocketAddress, turns: RoundRobin): Route {
  const candidates = state.endpointsOf(service).filter(({ ports }) => ports.has(dialled.port));
  const endpoint = turns.choose(`${service.key}:${String(dialled.port)}`, candidates);
  const port = endpoint?.ports.get(dialled.port);
  const ip = endpoint === undefined ? undefined : addressLike(endpoint.workload, dialled.ip);
  if (endpoint === undefined || port === undefined || ip === undefined) return { kind: 'none', service };
  return toWorkload(endpoint.workload, { ip, port }, service);
}

function toWorkload(workload: Workload | undefined, target: SocketAddress, service: Service | undefined): Route {
  if (workload?.protocol === 'HBONE') return { kind: 'hbone', hop: { ip: target.ip, port: HBONE_PORT }, target, workload, service };
  return { kind: 'tcp', target, workload, service };
}

/** The workload's address of the family that was dialled, else its first. */
function addressLike(workload: Workload, dialled: string): string | undefined {
  const family = familyOf(dialled);
  return workload.ips.find((ip) => familyOf(ip) === family) ?? workload.ips[0];
}
