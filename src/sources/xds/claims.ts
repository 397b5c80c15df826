/** Addresses that two resources claim. No fault of one of them alone: the state decides between them, people should know. */
import type { StateStore } from '../../state/store.ts';
import type { StateDelta } from '../../state/workload.ts';

export interface Conflict {
  address: string;
  kind: 'workload' | 'service';
  /** the one that the state takes, and the other one */
  owners: [string, string];
}

/** @param kind of the owners */
interface Claimant {
  kind: Conflict['kind'];
  owner: string;
  address: string;
  /** who had the address before */
  other: string | undefined;
}

/**
 * Looks at what a delta claims anew; to be called before it is applied, and what it returns afterwards. A conflict is found when it
 * comes up, so it is told once, and again only after it was resolved.
 */
export function watchClaims(store: StateStore, delta: StateDelta): () => Conflict[] {
  const claims: Claimant[] = [];
  for (const { uid, ips, hostNetwork, network } of delta.workloads) {
    if (hostNetwork || network !== store.network) continue; // pods on the node's network share its addresses
    const before = store.workload(uid)?.ips;
    for (const address of ips) {
      if (before?.includes(address) !== true) claims.push({ kind: 'workload', owner: uid, address, other: store.byIp(address)?.uid });
    }
  }
  for (const { key, vips } of delta.services) {
    const before = store.service(key)?.vips;
    for (const address of vips) {
      if (before?.includes(address) !== true) claims.push({ kind: 'service', owner: key, address, other: store.byVip(address, '')?.key });
    }
  }
  return () => claims.map((claim) => conflictOf(store, claim)).filter((conflict) => conflict !== undefined);
}

function conflictOf(store: StateStore, { kind, owner, address, other }: Claimant): Conflict | undefined {
  const winner = kind === 'workload' ? store.byIp(address)?.uid : store.byVip(address, '')?.key;
  if (winner === undefined) return undefined;
  if (winner !== owner) return rivals(store, kind, winner, owner) ? { address, kind, owners: [winner, owner] } : undefined;
  if (other === undefined || other === owner || !rivals(store, kind, owner, other)) return undefined;
  const still = kind === 'workload' ? store.workload(other)?.ips : store.service(other)?.vips;
  return still?.includes(address) === true ? { address, kind, owners: [owner, other] } : undefined;
}

/** One host declared in two namespaces is meant so: each namespace gets its own. */
function rivals(store: StateStore, kind: Conflict['kind'], a: string, b: string): boolean {
  if (kind === 'workload') return store.workload(a)?.hostNetwork === false && store.workload(b)?.hostNetwork === false;
  return store.service(a)?.hostname !== store.service(b)?.hostname;
}
