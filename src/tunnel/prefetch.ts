/** Fetches the certificates of this node's captured workloads as they become known, so that their first connections do not wait. */
import type { StateStore } from '../state/store.ts';
import type { StateDelta } from '../state/workload.ts';
import type { Certificates } from './certificates.ts';

interface Kept {
  identity: string;
  release(): void;
}

export class Prefetch {
  readonly #state: StateStore;
  readonly #certificates: Certificates;
  /** by uid of the workload */
  readonly #kept = new Map<string, Kept>();
  readonly #watch: { close(): void };

  constructor(state: StateStore, certificates: Certificates) {
    this.#state = state;
    this.#certificates = certificates;
    this.#watch = state.onChange((change) => {
      this.#changed(change);
    });
  }

  close(): void {
    this.#watch.close();
    for (const uid of [...this.#kept.keys()]) this.#keep(uid, undefined);
  }

  #changed({ workloads, removed }: StateDelta): void {
    for (const workload of workloads) {
      const needed = workload.protocol === 'HBONE' && this.#state.isLocal(workload);
      this.#keep(workload.uid, needed ? workload.identity : undefined);
    }
    for (const uid of removed.workloads) this.#keep(uid, undefined); // last: a successor may have its identity
  }

  #keep(uid: string, identity: string | undefined): void {
    const before = this.#kept.get(uid);
    if (before?.identity === identity) return;
    if (identity === undefined) this.#kept.delete(uid);
    else this.#kept.set(uid, { identity, ...this.#certificates.retain(identity) });
    before?.release();
  }
}
