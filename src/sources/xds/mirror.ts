/**
 * What the control plane gave and has not taken back: names and versions, to resume with, while the values are in the state. A
 * refused resource leaves what was there before, with its version: so it is sent again after a reconnect.
 */
import { ADDRESS_TYPE, AUTHORIZATION_TYPE } from '../../rpc/services.ts';
import type { StateStore } from '../../state/store.ts';
import type { Policy, Service, StateDelta, Workload } from '../../state/workload.ts';
import { watchClaims, type Conflict } from './claims.ts';
import type { Converted, ResourceType } from './convert.ts';

interface Held {
  kind: Converted['kind'];
  version: string;
  /** what of it this version of ours does not use, as it was told */
  unused: string;
  /** on demand only: the names that it was asked for by */
  names: readonly string[];
}

export interface Applied {
  conflicts: Conflict[];
  /** resources with something that is not used, each told once */
  unused: { name: string; what: string }[];
  /** names that nothing is behind any more, of resources and what these were asked for by */
  gone: ReadonlySet<string>;
}

const NONE: readonly string[] = [];

export class Mirror {
  readonly #store: StateStore;
  readonly #demandNames: (resource: Converted) => readonly string[];
  readonly #held: Record<ResourceType, Map<string, Held>> = { [ADDRESS_TYPE]: new Map(), [AUTHORIZATION_TYPE]: new Map() };

  /** @param demandNames undefined: nothing is asked for by name */
  constructor(store: StateStore, demandNames: ((resource: Converted) => readonly string[]) | undefined) {
    this.#store = store;
    this.#demandNames = demandNames ?? (() => NONE);
  }

  /** For `initial_resource_versions`. A version may be empty: istiod gives policies none. */
  versions(type: ResourceType): Record<string, string> {
    return Object.fromEntries([...this.#held[type]].map(([name, { version }]) => [name, version]));
  }

  has(type: ResourceType, name: string): boolean {
    return this.#held[type].has(name);
  }

  /** One change of the state. @param removed wins over a resource of the same name, as in ztunnel */
  apply(type: ResourceType, resources: readonly Converted[], removed: readonly string[]): Applied {
    const held = this.#held[type];
    const latest = new Map(resources.map((resource) => [resource.name, resource]));
    for (const name of removed) latest.delete(name);
    const delta = this.#delta(held, latest, removed);
    const conflicts = watchClaims(this.#store, delta);
    this.#store.apply(delta);

    const gone = new Set(removed);
    for (const name of removed) {
      for (const other of held.get(name)?.names ?? NONE) gone.add(other);
      held.delete(name);
    }
    const unused: Applied['unused'] = [];
    for (const [name, resource] of latest) {
      const before = held.get(name);
      for (const other of before?.names ?? NONE) gone.add(other);
      const { kind, version, unused: what } = resource;
      if (what !== '' && before?.unused !== what) unused.push({ name, what });
      held.set(name, { kind, version, unused: what, names: this.#demandNames(resource) });
    }
    for (const name of latest.keys()) for (const other of held.get(name)?.names ?? NONE) gone.delete(other);
    return { conflicts: conflicts(), unused, gone };
  }

  #delta(held: ReadonlyMap<string, Held>, latest: ReadonlyMap<string, Converted>, removed: readonly string[]): StateDelta {
    const workloads: Workload[] = [];
    const services: Service[] = [];
    const policies: Policy[] = [];
    const gone = { workload: new Set<string>(), service: new Set<string>(), policy: new Set<string>() };
    for (const [name, resource] of latest) {
      const before = held.get(name)?.kind;
      if (before !== undefined && before !== resource.kind) gone[before].add(name);
      if (resource.kind === 'workload') workloads.push(resource.value);
      else if (resource.kind === 'service') services.push(resource.value);
      else policies.push(resource.value);
    }
    for (const name of removed) {
      const before = held.get(name)?.kind;
      if (before !== undefined) gone[before].add(name);
    }
    return {
      workloads,
      services,
      policies,
      removed: { workloads: [...gone.workload], services: [...gone.service], policies: [...gone.policy] },
    };
  }
}
