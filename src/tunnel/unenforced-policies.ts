/** Policies are carried and not enforced by this version; it says so of each that would have a say over a workload of this node. */
import type { Logger } from '../base/log.ts';
import { Scope } from '../proto/security_pb.js';
import type { StateStore } from '../state/store.ts';
import type { Policy, StateDelta, Workload } from '../state/workload.ts';

/** One warning per policy, the moment it first applies to a workload of this node. */
export class UnenforcedPolicies {
  readonly #state: StateStore;
  readonly #log: Logger;
  readonly #warned = new Set<string>();
  readonly #watch: { close(): void };

  constructor(state: StateStore, log: Logger) {
    this.#state = state;
    this.#log = log;
    this.#watch = state.onChange((change) => {
      this.#changed(change);
    });
  }

  close(): void {
    this.#watch.close();
  }

  #changed({ policies, workloads, removed }: StateDelta): void {
    for (const key of removed.policies) this.#warned.delete(key);
    for (const policy of policies) {
      for (const workload of this.#state.localWorkloads()) if (this.#warn(policy, workload)) break;
    }
    const local = workloads.filter((workload) => this.#state.isLocal(workload));
    if (local.length === 0) return;
    for (const policy of this.#state.policies()) {
      if (!this.#warned.has(policy.key)) for (const workload of local) if (this.#warn(policy, workload)) break;
    }
  }

  /** @returns whether nothing more is to be said of it */
  #warn(policy: Policy, workload: Workload): boolean {
    if (this.#warned.has(policy.key)) return true;
    if (!applies(policy, workload)) return false;
    this.#warned.add(policy.key);
    this.#log.warn({ policy: policy.key }, `policy ${policy.key} is known but not enforced by this version`);
    return true;
  }
}

/** A dry run is not meant to be enforced by anybody. */
function applies({ key, authorization: { scope, namespace, dryRun } }: Policy, workload: Workload): boolean {
  if (dryRun) return false;
  switch (scope) {
    case Scope.GLOBAL:
      return true;
    case Scope.NAMESPACE:
      return namespace === workload.namespace;
    default:
      return workload.policies.includes(key);
  }
}
