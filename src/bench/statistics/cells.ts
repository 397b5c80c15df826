/** Samples of one metric, scenario and tunnel, over all rounds, as one cell. */
import type { Cell, Sample } from '../report.ts';
import { ENOUGH_ROUNDS, medianInterval } from './interval.ts';

export const usable = (sample: Sample): boolean => sample.valid && Number.isFinite(sample.value);

/** Cells in the order in which their first sample comes; a cell is void when none of its samples counts. */
export function cellsOf(samples: readonly Sample[]): Cell[] {
  const groups = Map.groupBy(samples, ({ scenario, tunnel, metric }) => JSON.stringify([scenario, tunnel, metric]));
  return [...groups.values()].map(cellOf);
}

function cellOf(all: readonly Sample[]): Cell {
  const [first] = all as [Sample, ...Sample[]];
  const { scenario, tunnel, metric, unit } = first;
  const inOrder = all.toSorted((a, b) => a.round - b.round);
  const samples = inOrder.filter(usable).map(({ value }) => value);
  const note = noteOf(inOrder, samples.length);
  const base = { scenario, tunnel, metric, unit, samples };
  if (samples.length === 0) return { ...base, median: 0, low: 0, high: 0, valid: false, note };
  return { ...base, ...medianInterval(samples), valid: true, ...(note === '' ? {} : { note }) };
}

export const fewNote = (samples: number): string => `only ${samples} ${samples === 1 ? 'sample' : 'samples'}`;

/** What a reader must know of these numbers: void ones and why, or that they are few. Empty when all is well. */
function noteOf(all: readonly Sample[], left: number): string {
  const parts: string[] = [];
  if (left < all.length) parts.push(`${all.length - left} of ${all.length} void: ${reasons(all).join('; ')}`);
  if (left > 0 && left < ENOUGH_ROUNDS) parts.push(fewNote(left));
  return parts.join('; ');
}

function reasons(samples: readonly Sample[]): string[] {
  const void_ = samples.filter((sample) => !usable(sample));
  return [...new Set(void_.map(({ why, value }) => why ?? (Number.isFinite(value) ? 'no reason given' : `its value is ${value}`)))];
}
