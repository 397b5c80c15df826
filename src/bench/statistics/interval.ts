/**
 * A median and how far it may be off: the percentile bootstrap. The rounds are drawn again, with replacement, as often as RESAMPLES
 * says; the middle 95 % of the medians of those draws is the interval. With five or six rounds that is all the way from the least
 * to the greatest, so more rounds are what makes it narrow.
 */
import { median, quantileSorted, sampleWithReplacement } from 'simple-statistics';
import { seeded } from './random.ts';

export const RESAMPLES = 10_000;
export const CONFIDENCE = 0.95;
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
  const random = seeded(SEED);
  const medians = new Float64Array(RESAMPLES);
  for (let i = 0; i < RESAMPLES; i += 1) medians[i] = median(sampleWithReplacement(sorted, sorted.length, random));
  medians.sort();
  const tail = (1 - CONFIDENCE) / 2;
  const middle = median(sorted);
  const [low, high] = [tail, 1 - tail].map((share) => quantileSorted([...medians], share)) as [number, number];
  // Rounding in an even number of rounds must not put the median outside by a last digit.
  return { median: middle, low: Math.min(low, middle), high: Math.max(high, middle) };
}
