/** Growing pauses between attempts, with jitter, so that replicas that lost the same server do not return in step. */
import { setTimeout } from 'node:timers/promises';

const FIRST_MS = 100;
const MAX_MS = 30_000;

export class Backoff {
  readonly #maxMs: number;
  #failures = 0;

  constructor(maxMs = MAX_MS) {
    this.#maxMs = maxMs;
  }

  reset(): void {
    this.#failures = 0;
  }

  /** Returns early when the signal aborts. @param leastMs what the server asked for */
  async wait(signal: AbortSignal, leastMs = 0): Promise<void> {
    const full = Math.min(this.#maxMs, FIRST_MS * 2 ** this.#failures);
    this.#failures = Math.min(this.#failures + 1, 16);
    const pauseMs = Math.max(leastMs, full * (0.5 + Math.random() / 2));
    await setTimeout(pauseMs, undefined, { signal, ref: false }).catch(() => undefined);
  }
}
