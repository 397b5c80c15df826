/** How long to wait before repairing again, when somebody else undoes each repair at once. */

export interface ThrottleOptions {
  /** so many repairs within `quickMs` are a coincidence */
  free: number;
  quickMs: number;
  firstDelayMs: number;
  maxDelayMs: number;
}

/** As istio-cni counts; the delay bounds what two programs that fight over a file cost, and how long ours is missing from it. */
export const defaultThrottle: ThrottleOptions = { free: 5, quickMs: 60_000, firstDelayMs: 500, maxDelayMs: 10_000 };

export class Throttle {
  readonly #options: ThrottleOptions;
  readonly #now: () => number;
  #repairs: number[] = [];

  /** @param now milliseconds of a clock that never goes back */
  constructor(options: ThrottleOptions = defaultThrottle, now: () => number = () => performance.now()) {
    this.#options = options;
    this.#now = now;
  }

  /** @returns true when this is the first repair too many: time to say so, once */
  repaired(): boolean {
    this.#repairs = [...this.#recent(), this.#now()].slice(-64); // 2^64 is past every maximum
    return this.#repairs.length === this.#options.free + 1;
  }

  /** ms until the next repair may be tried */
  delay(): number {
    const tooMany = this.#recent().length - this.#options.free;
    if (tooMany <= 0) return 0;
    return Math.min(this.#options.firstDelayMs * 2 ** (tooMany - 1), this.#options.maxDelayMs);
  }

  #recent(): number[] {
    const since = this.#now() - this.#options.quickMs;
    return this.#repairs.filter((at) => at > since);
  }
}
