/**
 * A median and how far it may be off: the percentile bootstrap. The rounds are drawn again, with replacement, as often as RESAMPLES
 * says; the middle 95 % of the medians of those draws is the interval. With five or six rounds that is all the way from the least
 * to the greatest, so more rounds are what makes it narrow. With seven it holds the true median in 87 of 100 cases only (simulated); with
 * five, and from nine on, in 92 to 96.
 */
import { median, sampleWithReplacement } from 'simple-statistics';
import { seeded } from './random.ts';

export const RESAMPLES = 10_000;
const CONFIDENCE = 0.95;
/** Below it, even the whole range holds the true median in fewer than nine of ten cases (1 - 2/2^n). */
export const ENOUGH_ROUNDS = 5;

const SEED = 0x0c01_7e27;

export interface Interval {
  median: number;
  low: number;
  high: number;
}

/** @param values at least one, finite; their order does not matter */
export function medianInterval(values: readonly number[]): Interval {
  const sorted = [...values].sort((a, b) => a - b);
  const at = (place: number): number => sorted[place] ?? Number.NaN;
  const medians = drawsOf(sorted.length)
    .map(({ lower, upper, times }) => ({ value: (at(lower) + at(upper)) / 2, times }))
    .sort((a, b) => a.value - b.value);
  const tail = (1 - CONFIDENCE) / 2;
  const middle = median(sorted);
  // The sum of two equal numbers halved is exact, but an even number of rounds may differ from `median` by a last digit.
  return { median: middle, low: Math.min(quantile(medians, tail), middle), high: Math.max(quantile(medians, 1 - tail), middle) };
}

/** The least value that this share of all draws does not exceed. */
function quantile(sorted: readonly { value: number; times: number }[], share: number): number {
  let seen = 0;
  for (const { value, times } of sorted) {
    seen += times;
    if (seen >= share * RESAMPLES) return value;
  }
  return sorted.at(-1)?.value ?? Number.NaN;
}

/** The middle one of a draw, or the middle two, as places among the sorted rounds, and how many draws have just these. */
interface Middle {
  lower: number;
  upper: number;
  times: number;
}

/** Which places a draw has in its middle does not depend on the values: drawn once for each number of rounds. */
const draws = new Map<number, Middle[]>();

function drawsOf(rounds: number): Middle[] {
  const known = draws.get(rounds);
  if (known !== undefined) return known;
  const places = Array.from({ length: rounds }, (_, place) => place);
  const random = seeded(SEED);
  const middles = new Map<number, Middle>();
  for (let i = 0; i < RESAMPLES; i += 1) {
    const draw = sampleWithReplacement(places, rounds, random).sort((a, b) => a - b);
    const lower = draw[(rounds - 1) >> 1] ?? 0;
    const upper = draw[rounds >> 1] ?? 0;
    const middle = middles.get(lower * rounds + upper);
    if (middle === undefined) middles.set(lower * rounds + upper, { lower, upper, times: 1 });
    else middle.times += 1;
  }
  const found = [...middles.values()];
  draws.set(rounds, found);
  return found;
}
