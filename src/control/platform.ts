/** What a cluster's driver brings along beside its objects: who calls, which roots there are, and the chores that one replica does. */
import type { AccountLookup } from './ca/inventory.ts';
import type { Authority } from './ca/authority.ts';
import type { CaMaterial } from './ca/material.ts';
import type { Authenticator } from './authenticator.ts';
import type { Cluster } from './cluster.ts';
import type { PolicyReport } from './policy/report.ts';

export interface Roots {
  readonly material: CaMaterial;
  onMaterial(listener: (material: CaMaterial) => void): { close(): void };
  /** Notes that a certificate of this life is about to be handed out: a rotation has to wait that long. undefined: roots of one kind only */
  reserve?(lifetimeMs: number): Promise<void>;
}

export interface Platform {
  readonly cluster: Cluster;
  readonly authenticator: Authenticator;
  readonly roots: Roots;
  /** undefined: what the cluster's driver did not tell of does not exist */
  readonly lookup?: AccountLookup;
  /** true for the one replica that writes */
  isLeader(): boolean;
  /** Begins the chores. Called once, after the authority was made of the roots. */
  begin(authority: Authority): void;
  /** Tells people what becomes of their policies. */
  report(reports: readonly PolicyReport[]): void;
  close(): Promise<void>;
}
