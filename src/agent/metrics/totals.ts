/**
 * Counts of netns that come and go, summed so that the sum never goes down: Prometheus takes a counter that falls for one that was
 * reset, and would count what is left once more. A sum begins with 0 when the agent does, whatever the pinned maps hold by then.
 */
import type { Tally } from '../../redirect/driver.ts';

export interface Total extends Pick<Tally, 'direction' | 'verdict' | 'reason'> {
  count: number;
}

export class Totals {
  /** by netns cookie, then by key: what was read last */
  readonly #last = new Map<bigint, Map<string, number>>();
  readonly #sums = new Map<string, Total>();

  /** @param before what was counted before this process */
  constructor(before: readonly Tally[]) {
    for (const tally of before) this.#of(tally.cookie).set(keyOf(tally), tally.count);
  }

  /** @param tallies everything there is now */
  read(tallies: readonly Tally[]): void {
    const seen = new Set(tallies.map(({ cookie }) => cookie));
    for (const cookie of this.#last.keys()) if (!seen.has(cookie)) this.#last.delete(cookie); // never used again
    for (const tally of tallies) this.#add(tally);
  }

  /** The last reading of a netns whose counts are about to be deleted. */
  readLast(tallies: readonly Tally[]): void {
    for (const tally of tallies) this.#add(tally);
  }

  /** Its counts are deleted: what was read of them is needed no more, also when nobody ever scrapes. */
  forget(cookie: bigint): void {
    this.#last.delete(cookie);
  }

  /** netns of which something is remembered */
  get known(): number {
    return this.#last.size;
  }

  all(): Total[] {
    return [...this.#sums.values()];
  }

  #add(tally: Tally): void {
    const key = keyOf(tally);
    const last = this.#of(tally.cookie);
    const { direction, verdict, reason } = tally;
    const sum = this.#sums.get(key) ?? { direction, verdict, reason, count: 0 };
    sum.count += Math.max(0, tally.count - (last.get(key) ?? 0));
    this.#sums.set(key, sum);
    last.set(key, tally.count);
  }

  #of(cookie: bigint): Map<string, number> {
    const known = this.#last.get(cookie) ?? new Map<string, number>();
    this.#last.set(cookie, known);
    return known;
  }
}

function keyOf({ direction, verdict, reason }: Tally): string {
  return `${direction} ${verdict} ${reason}`;
}
