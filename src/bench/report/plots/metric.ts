/** One metric: a row for each scenario with every round as a dot, the rounds from top to bottom, the median and its interval. */
import { quantity, range } from '../format.ts';
import type { Row } from '../view.ts';
import { colours } from './colours.ts';
import { draw } from './draw.ts';

const ROW = 30;

export async function metricPlot(row: Row): Promise<string> {
  // A scenario that cannot have the metric has no row; one whose figure is void or n/a has, and says so.
  const names = [...row.shown].filter(([, shown]) => shown.kind !== 'none').map(([name]) => name);
  return draw({
    title: row.metric.title,
    subtitle: betterText(row),
    description: describe(row),
    ...{ left: 62, right: 62, height: names.length * ROW },
    spec: specOf(row, names),
  });
}

function specOf(row: Row, names: string[]): object {
  const dots: object[] = [];
  const medians: object[] = [];
  const words: object[] = [];
  for (const [scenario, shown] of row.shown) {
    if (shown.kind === 'none') continue;
    if (shown.kind === 'value') {
      const { samples, median, low, high } = shown.cell;
      dots.push(...samples.map((value, i) => ({ scenario, value, round: i + 1 })));
      medians.push({ scenario, median, low, high, text: quantity(median) });
    } else words.push({ scenario, text: shown.kind === 'void' ? 'void' : 'n/a' });
  }
  const y = { field: 'scenario', type: 'nominal', sort: names, scale: { domain: names }, axis: { title: null, grid: false } };
  const color = { field: 'scenario', type: 'nominal', scale: colours(names), legend: null };
  const x = { type: 'quantitative', scale: { zero: true, nice: true }, axis: { title: row.unit, tickCount: 4, format: ',.6~g' } };
  return {
    layer: [
      {
        data: { values: dots },
        mark: { type: 'point', filled: true, size: 9, opacity: 0.65 },
        encoding: {
          y,
          yOffset: { field: 'round', type: 'quantitative', scale: { zero: false, padding: 4 } },
          x: { ...x, field: 'value' },
          color,
        },
      },
      {
        data: { values: medians },
        mark: { type: 'rule', strokeWidth: 2 },
        encoding: { y, x: { ...x, field: 'low' }, x2: { field: 'high' }, color },
      },
      {
        data: { values: medians },
        mark: { type: 'tick', thickness: 3, size: 18 },
        encoding: { y, x: { ...x, field: 'median' }, color },
      },
      {
        data: { values: medians },
        mark: { type: 'text', align: 'left', dx: 5 },
        encoding: { y, x: { value: 'width' }, text: { field: 'text' } },
      },
      { data: { values: words }, mark: { type: 'text', align: 'left', dx: 4 }, encoding: { y, x: { value: 0 }, text: { field: 'text' } } },
    ],
  };
}

export function betterText({ metric, unit }: Pick<Row, 'metric' | 'unit'>): string {
  return metric.better === undefined ? unit : `${unit}, ${metric.better} is better`;
}

function describe(row: Row): string {
  const parts = [...row.shown].flatMap(([name, shown]) => {
    if (shown.kind === 'none') return [];
    if (shown.kind !== 'value') return [`${name} ${shown.kind === 'void' ? 'void' : 'not applicable'}`];
    const { median, low, high } = shown.cell;
    return [`${name} ${quantity(median)}, interval ${range(low, high, quantity)}`];
  });
  return `Plot of ${row.metric.title} in ${betterText(row)}. ${parts.join('; ')}.`;
}
