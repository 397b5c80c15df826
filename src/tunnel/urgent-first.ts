/** Bounds how much work runs at once; what waits is begun by urgency, then in order of arrival. */

/** Most urgent first: a connection waits; a new workload will soon have connections; what is in use is good for a while. */
const URGENCIES = ['connection', 'prefetch', 'refresh'] as const;
export type Urgency = (typeof URGENCIES)[number];

export class UrgentFirst<T extends object> {
  readonly #work: (item: T) => Promise<void>;
  readonly #running = new Set<T>();
  readonly #waiting = URGENCIES.map(() => new Set<T>());
  readonly #limit: number;

  /** @param work never rejects */
  constructor(limit: number, work: (item: T) => Promise<void>) {
    this.#limit = limit;
    this.#work = work;
  }

  /** What waits already becomes as urgent as this, never less; what runs is left to run. */
  add(item: T, urgency: Urgency): void {
    if (this.#running.has(item)) return;
    const rank = URGENCIES.indexOf(urgency);
    const before = this.#waiting.findIndex((waiting) => waiting.has(item));
    if (before >= 0 && before <= rank) return;
    if (before >= 0) this.#waiting[before]?.delete(item);
    this.#waiting[rank]?.add(item);
    this.#begin();
  }

  /** @returns whether it waited, and does no more */
  drop(item: T): boolean {
    return this.#waiting.some((waiting) => waiting.delete(item));
  }

  #begin(): void {
    while (this.#running.size < this.#limit) {
      const item = this.#next();
      if (item === undefined) return;
      this.#running.add(item);
      void this.#work(item).finally(() => {
        this.#running.delete(item);
        this.#begin();
      });
    }
  }

  #next(): T | undefined {
    for (const waiting of this.#waiting) {
      for (const item of waiting) {
        waiting.delete(item);
        return item;
      }
    }
    return undefined;
  }
}
