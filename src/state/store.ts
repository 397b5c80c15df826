/** Holds the current snapshot, swaps it whole, and lets a connection wait for a workload that the source has not brought yet. */
import { stateOfMesh } from './mesh.ts';
import type { MeshSnapshot } from '../sources/source.ts';
import { StateSnapshot } from './snapshot.ts';
import type { Workload, WorkloadId } from './workload.ts';

export class StateStore {
  #current = new StateSnapshot('', [], []);
  #synced = false;
  readonly #listeners = new Set<() => void>();

  get current(): StateSnapshot {
    return this.#current;
  }

  /** False until the first snapshot. */
  get synced(): boolean {
    return this.#synced;
  }

  update(mesh: MeshSnapshot): void {
    this.replace(stateOfMesh(mesh));
  }

  replace(snapshot: StateSnapshot): void {
    this.#current = snapshot;
    this.#synced = true;
    for (const listener of [...this.#listeners]) listener();
  }

  /** Called after every swap. */
  onChange(listener: () => void): { close(): void } {
    this.#listeners.add(listener);
    return { close: () => this.#listeners.delete(listener) };
  }

  /** Resolves undefined when the workload has not appeared within `timeoutMs`, or `signal` aborts. Never rejects. */
  waitFor(id: WorkloadId, uid: string, timeoutMs: number, signal?: AbortSignal): Promise<Workload | undefined> {
    const found = this.#current.byId(id, uid);
    if (found !== undefined) return Promise.resolve(found);
    if (signal?.aborted === true) return Promise.resolve(undefined);
    return new Promise((resolve) => {
      const settle = (workload: Workload | undefined): void => {
        clearTimeout(timer);
        watch.close();
        signal?.removeEventListener('abort', giveUp);
        resolve(workload);
      };
      const giveUp = (): void => {
        settle(undefined);
      };
      const timer = setTimeout(giveUp, timeoutMs);
      const watch = this.onChange(() => {
        const arrived = this.#current.byId(id, uid);
        if (arrived !== undefined) settle(arrived);
      });
      signal?.addEventListener('abort', giveUp, { once: true });
    });
  }
}
