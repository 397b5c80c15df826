/** Latency at one number of connections: for each scenario p50, p99 and p99.9 with their intervals, on a logarithmic axis. */
import { quantity, range } from '../format.ts';
import type { Row } from '../view.ts';
import { colours } from './colours.ts';
import { draw, innerWidth } from './draw.ts';
import { logDomain, logTicks } from './logarithmic.ts';

const ROW = 36;
/** Room for names. */
const SIDES = { left: 62, right: 24 };
const PERCENTILES = new Map([
  ['p50', 'p50'],
  ['p99', 'p99'],
  ['p999', 'p99.9'],
]);
const NAME = /^round-trip-(p\d+)-(\d+)$/;

export const isLatency = ({ name }: Row): boolean => NAME.test(name);

interface Mark {
  scenario: string;
  percentile: string;
  median: number;
  low: number;
  high: number;
}

/** One plot for each number of connections that was measured. */
export async function latencyPlots(rows: readonly Row[]): Promise<string[]> {
  const groups = Map.groupBy(rows.filter(isLatency), ({ name }) => NAME.exec(name)?.[2] ?? '');
  const plots: string[] = [];
  for (const [connections, of] of groups) {
    const plot = await latencyPlot(connections, of);
    if (plot !== undefined) plots.push(plot);
  }
  return plots;
}

async function latencyPlot(connections: string, rows: readonly Row[]): Promise<string | undefined> {
  const marks = rows.flatMap((row) =>
    [...row.shown.values()].flatMap((shown): Mark[] => {
      const percentile = PERCENTILES.get(NAME.exec(row.name)?.[1] ?? '') ?? row.metric.title;
      return shown.kind === 'value' && shown.cell.low > 0 ? [{ ...shown.cell, percentile }] : [];
    }),
  );
  if (marks.length === 0) return undefined;
  const title = `Latency over ${connections} kept ${connections === '1' ? 'connection' : 'connections'}`;
  const unit = rows[0]?.unit ?? '';
  // A scenario whose figures are all void or n/a keeps its row, and says so there.
  const kinds = new Map(rows.flatMap(({ shown }) => [...shown].map(([name, { kind }]) => [name, kind] as const)));
  const names = [...kinds].filter(([, kind]) => kind !== 'none').map(([name]) => name);
  const words = names
    .filter((name) => !marks.some(({ scenario }) => scenario === name))
    .map((scenario) => ({ scenario, text: kinds.get(scenario) === 'void' ? 'void' : 'n/a' }));
  return draw({
    title,
    subtitle: `${unit}, less is better`,
    description: `${describe(title, unit, marks)}${words.map(({ scenario, text }) => ` ${scenario}: ${text}.`).join('')}`,
    ...SIDES,
    height: names.length * ROW,
    bottom: 62,
    spec: specOf(unit, names, marks, words),
  });
}

function specOf(unit: string, names: string[], marks: readonly Mark[], words: readonly object[]): object {
  const values = marks.map(({ scenario, percentile, median, low, high }) => ({
    scenario,
    percentile,
    median,
    low,
    high,
    text: quantity(median),
  }));
  const domain = logDomain(marks.flatMap(({ low, high }) => [low, high]));
  const percentiles = [...PERCENTILES.values()];
  const y = { field: 'scenario', type: 'nominal', sort: names, scale: { domain: names, type: 'band' }, axis: { title: null, grid: false } };
  const color = { field: 'scenario', type: 'nominal', scale: colours(names), legend: null };
  const x = {
    type: 'quantitative',
    scale: { type: 'log', domain, nice: false },
    axis: { title: `${unit}, logarithmic`, values: logTicks(domain, innerWidth(SIDES), domain[0], 44), format: ',~r' },
  };
  return {
    data: { values },
    layer: [
      { mark: { type: 'rule', strokeWidth: 2 }, encoding: { y, x: { ...x, field: 'low' }, x2: { field: 'high' }, color } },
      {
        mark: { type: 'point', filled: true, size: 60, opacity: 1 },
        encoding: {
          y,
          x: { ...x, field: 'median' },
          color,
          shape: {
            field: 'percentile',
            type: 'nominal',
            sort: percentiles,
            scale: { domain: percentiles, range: ['circle', 'diamond', 'triangle-up'] },
            legend: { title: null, orient: 'bottom', symbolFillColor: 'var(--ink)', symbolStrokeWidth: 0 },
          },
        },
      },
      { data: { values: words }, mark: { type: 'text', align: 'left', dx: 4 }, encoding: { y, x: { value: 0 }, text: { field: 'text' } } },
      // Neighbouring percentiles come near to each other: one's number above, the next one's below.
      ...percentiles.map((percentile, i) => ({
        transform: [{ filter: { field: 'percentile', equal: percentile } }],
        mark: { type: 'text', dy: i % 2 === 0 ? -9 : 11, fontSize: 9 },
        encoding: { y, x: { ...x, field: 'median' }, text: { field: 'text' } },
      })),
    ],
  };
}

function describe(title: string, unit: string, marks: readonly Mark[]): string {
  const byScenario = Map.groupBy(marks, ({ scenario }) => scenario);
  const parts = [...byScenario].map(
    ([scenario, of]) =>
      `${scenario} ${of.map(({ percentile, median, low, high }) => `${percentile} ${quantity(median)} (${range(low, high, quantity)})`).join(', ')}`,
  );
  return `Plot: ${title}, in ${unit}. ${parts.join('; ')}.`;
}
