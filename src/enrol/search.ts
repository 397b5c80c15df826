/** When pods are looked for whose netns nobody named: at once, all of one moment together, and then less and less often. */
import { CulvertError } from '../base/errors.ts';
import type { Discovery } from './discovery.ts';
import type { Netns } from './netns.ts';
import type { Entry } from './registry.ts';

export interface SearchOptions {
  discovery: Discovery;
  /** takes the netns over; undefined: nothing of the pod is in any */
  onFound: (entry: Entry, netns: Netns | undefined) => void;
  /** /proc cannot be read: that says nothing of any pod */
  onFailed: (entry: Entry, error: CulvertError) => void;
  /** the pause after a search that found nothing; it doubles up to the greatest */
  backoff: { firstMs: number; maxMs: number };
}

interface Due {
  misses: number;
  /** performance.now() */
  at: number;
}

export class Search {
  readonly #o: SearchOptions;
  readonly #wanted = new Set<Entry>();
  readonly #due = new WeakMap<Entry, Due>();
  #running = false;
  #closed = false;

  constructor(options: SearchOptions) {
    this.#o = options;
  }

  /** How often nothing was found, since something new was known of the pod. */
  misses(entry: Entry): number {
    return this.#due.get(entry)?.misses ?? 0;
  }

  /** Looks for it when its pause is over; else nothing happens: whoever still wants it asks again. */
  want(entry: Entry): void {
    if (performance.now() < (this.#due.get(entry)?.at ?? 0)) return;
    this.#wanted.add(entry);
    if (this.#running) return;
    this.#running = true;
    queueMicrotask(() => void this.#run());
  }

  /** Something new is known of the pod: no pause counts. */
  renew(entry: Entry): void {
    this.#due.delete(entry);
  }

  close(): void {
    this.#closed = true;
    this.#wanted.clear();
  }

  async #run(): Promise<void> {
    try {
      while (this.#wanted.size > 0) await this.#look();
    } finally {
      this.#running = false;
    }
  }

  async #look(): Promise<void> {
    const entries = [...this.#wanted];
    this.#wanted.clear();
    const sought = entries.flatMap(({ record, pod }) => (record === undefined ? [] : [{ record, cookie: pod.subject.cookie }]));
    const found = await this.#o.discovery.find(sought);
    for (const entry of entries) {
      const netns = found.get(entry.pod.subject.uid);
      if (netns instanceof CulvertError) {
        this.#pause(entry);
        if (!this.#closed) this.#o.onFailed(entry, netns);
        continue;
      }
      if (this.#closed) {
        netns?.close();
        continue;
      }
      if (netns === undefined) this.#pause(entry);
      else this.renew(entry);
      this.#o.onFound(entry, netns);
    }
  }

  #pause(entry: Entry): void {
    const misses = this.misses(entry) + 1;
    const { firstMs, maxMs } = this.#o.backoff;
    this.#due.set(entry, { misses, at: performance.now() + Math.min(maxMs, firstMs * 2 ** (misses - 1)) });
  }
}
