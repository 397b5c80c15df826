/** When to push: soon after a change, but not for each of many. */

export interface DebounceTimes {
  /** changes within this time of each other go together: a rollout's come in bursts */
  quietMs: number;
  /** nothing waits longer, however many changes follow */
  maxDelayMs: number;
  /** from one push to the next: a push costs each stream a message and its ack, whatever is in it */
  gapMs: number;
}

export class Debounce {
  readonly #times: DebounceTimes;
  readonly #fire: () => void;
  #timer: NodeJS.Timeout | undefined;
  #first = 0;
  #last = 0;
  #fired = -Infinity;

  constructor(times: DebounceTimes, fire: () => void) {
    this.#times = times;
    this.#fire = fire;
  }

  touch(): void {
    this.#last = performance.now();
    if (this.#timer !== undefined) return; // it looks again when it is due
    this.#first = this.#last;
    this.#arm();
  }

  /** Does now what is due later; nothing when nothing is. */
  now(): void {
    if (this.#timer === undefined) return;
    this.close();
    this.#fired = performance.now();
    this.#fire();
  }

  close(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  #arm(): void {
    this.#timer = setTimeout(
      () => {
        if (performance.now() < this.#due()) this.#arm();
        else this.now();
      },
      Math.max(0, Math.ceil(this.#due() - performance.now())),
    ).unref();
  }

  #due(): number {
    const { quietMs, maxDelayMs, gapMs } = this.#times;
    return Math.min(this.#first + maxDelayMs, Math.max(this.#last + quietMs, this.#fired + gapMs));
  }
}
