/**
 * Whether a ratio says anything. The A/A ratio, of two scenarios that are the same, shows how far apart equal things come out on this
 * machine; a ratio whose interval meets that band around 1 is within noise. Without an A/A ratio of that metric the band is 1 alone.
 */
import type { Ratio } from '../report.ts';
import { TWIN } from './ratios.ts';

export type Better = 'more' | 'less';

/** Which of the two of a ratio did better, or that it cannot be told. */
export type Verdict = 'a' | 'b' | 'noise';

/** The band around 1, [1/k, k]: which of the twins is called the first is an accident. */
export interface Band {
  low: number;
  high: number;
  /** false: there is no A/A ratio of this metric, and the band has no width */
  measured: boolean;
}

export const isTwin = ({ a, b }: Pick<Ratio, 'a' | 'b'>): boolean => a === TWIN.a && b === TWIN.b;

export function bandOf(ratios: readonly Ratio[], metric: string, tunnel: string): Band {
  const twin = ratios.find((ratio) => isTwin(ratio) && ratio.metric === metric && ratio.tunnel === tunnel);
  if (twin === undefined) return { low: 1, high: 1, measured: false };
  const high = Math.max(1, twin.high, twin.low > 0 ? 1 / twin.low : twin.high);
  return { low: 1 / high, high, measured: true };
}

export function verdictOf(ratio: Pick<Ratio, 'low' | 'high'>, band: Band, better: Better): Verdict {
  if (ratio.low <= band.high && ratio.high >= band.low) return 'noise';
  const aHasMore = ratio.low > band.high;
  return aHasMore === (better === 'more') ? 'a' : 'b';
}
