/** So many calls at once, so many per second in the long run, as the API server's other clients hold themselves. */
import { setTimeout } from 'node:timers/promises';

export class RateLimit {
  readonly #perSecond: number;
  readonly #burst: number;
  /** negative: taken in advance by those who wait */
  #tokens: number;
  #counted: number;
  #pausedUntil = 0;

  constructor(perSecond: number, burst: number) {
    this.#perSecond = perSecond;
    this.#burst = burst;
    this.#tokens = burst;
    this.#counted = performance.now();
  }

  /** Waits its turn; returns early when the signal aborts. */
  async take(signal: AbortSignal): Promise<void> {
    this.#refill();
    this.#tokens--;
    const turn = this.#tokens >= 0 ? 0 : (-this.#tokens / this.#perSecond) * 1000;
    const waitMs = Math.max(turn, this.#pausedUntil - performance.now());
    if (waitMs > 0) await setTimeout(waitMs, undefined, { signal, ref: false }).catch(() => undefined);
  }

  /** The server asked for a pause: nobody goes before it is over. */
  pause(ms: number): void {
    this.#pausedUntil = Math.max(this.#pausedUntil, performance.now() + ms);
  }

  #refill(): void {
    const now = performance.now();
    this.#tokens = Math.min(this.#burst, this.#tokens + ((now - this.#counted) / 1000) * this.#perSecond);
    this.#counted = now;
  }
}
