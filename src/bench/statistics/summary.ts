/** From what was measured to what is reported. */
import type { Cell, Ratio, Sample } from '../report.ts';
import { cellsOf } from './cells.ts';
import { ratiosOf } from './ratios.ts';

/** The same samples give the same numbers, in whatever order they come. */
export function summarise(samples: readonly Sample[]): { cells: Cell[]; ratios: Ratio[] } {
  return { cells: cellsOf(samples), ratios: ratiosOf(samples) };
}
