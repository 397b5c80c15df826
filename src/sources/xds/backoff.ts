/** Time between streams: doubling, with jitter so that the nodes of a mesh do not come back together. */

const FIRST_MS = 10;
const MAX_MS = 15_000;

export class Backoff {
  readonly #random: () => number;
  #ms = FIRST_MS;

  /** @param random in [0, 1) */
  constructor(random: () => number = Math.random) {
    this.#random = random;
  }

  /**
   * What to wait after a stream. One that was of use begins anew, unless it was over sooner than the wait before it: a server that
   * answers and then fails, again and again, is left in peace as well.
   * @param lasted ms @returns ms, half to the whole of the present delay
   */
  after(useful: boolean, lasted: number): number {
    if (useful && lasted >= this.#ms) this.#ms = FIRST_MS;
    const wait = this.#ms * (0.5 + this.#random() / 2);
    this.#ms = Math.min(this.#ms * 2, MAX_MS);
    return wait;
  }
}
