/**
 * A forest plot: the ratios of two scenarios, a row for each metric, on a logarithmic axis. The shaded band of a row is what two equal
 * pairs of pods come out apart (A/A); an interval that meets it says nothing. The verdict stands beside each row in words.
 */
import { range, ratioText } from '../format.ts';
import { pairName, type Compared, type Pair, type Row } from '../view.ts';
import { draw, innerWidth } from './draw.ts';
import { logDomain, logTicks } from './logarithmic.ts';

const ROW = 38;
/** Room for names and for words. */
const SIDES = { left: 144, right: 98 };

type Drawn = Row & { found: Compared };

/** @returns undefined when no row has a ratio of this pair that a logarithm can show */
export async function forestPlot(rows: readonly Row[], pair: Pair, title: string): Promise<string | undefined> {
  const drawn = rows.flatMap((row): Drawn[] => {
    const found = row.compared.get(pairName(pair));
    return found === undefined || found.ratio.low <= 0 ? [] : [{ ...row, found }];
  });
  if (drawn.length === 0) return undefined;
  const { a, b } = pair;
  const better = drawn.every(({ metric }) => metric.better === 'more') ? [b, a] : [a, b];
  return draw({
    title,
    subtitle: `← ${better[0]} better, ${better[1]} better →`,
    description: describe(drawn, pair, title),
    ...SIDES,
    height: drawn.length * ROW,
    spec: specOf(drawn, pair),
  });
}

function specOf(rows: readonly Drawn[], pair: Pair): object {
  const values = rows.map(({ metric, band, found }) => ({
    metric: metric.title,
    ...{ median: found.ratio.median, low: found.ratio.low, high: found.ratio.high },
    ...{ bandLow: band.low, bandHigh: band.high },
    verdict: found.winner === pair.a ? 'a' : found.winner === pair.b ? 'b' : 'noise',
    text: [ratioText(found.ratio.median), found.words],
  }));
  const domain = logDomain([0.95, 1.05, ...values.flatMap(({ low, high, bandLow, bandHigh }) => [low, high, bandLow, bandHigh])]);
  const names = values.map(({ metric }) => metric);
  const y = { field: 'metric', type: 'nominal', sort: names, scale: { domain: names, type: 'band' }, axis: { title: null, grid: false } };
  const axis = { title: `${pair.a} / ${pair.b}`, values: logTicks(domain, innerWidth(SIDES), 1), format: ',.4~g' };
  const x = { type: 'quantitative', scale: { type: 'log', domain, nice: false }, axis };
  return {
    data: { values },
    layer: [
      {
        mark: { type: 'bar', color: 'var(--band)', height: ROW - 4 },
        encoding: { y, x: { ...x, field: 'bandLow' }, x2: { field: 'bandHigh' } },
      },
      { mark: { type: 'rule', color: 'var(--quiet)', strokeDash: [3, 3] }, encoding: { x: { ...x, datum: 1 } } },
      { mark: { type: 'rule', strokeWidth: 2, color: 'var(--ink)' }, encoding: { y, x: { ...x, field: 'low' }, x2: { field: 'high' } } },
      {
        mark: { type: 'point', filled: true, size: 70, opacity: 1, stroke: 'var(--ink)', strokeWidth: 1.5 },
        encoding: {
          y,
          x: { ...x, field: 'median' },
          // Filled circle: a is better; filled square: b is; hollow: cannot be told.
          shape: {
            field: 'verdict',
            type: 'nominal',
            scale: { domain: ['a', 'b', 'noise'], range: ['circle', 'square', 'circle'] },
            legend: null,
          },
          fill: {
            field: 'verdict',
            type: 'nominal',
            scale: { domain: ['a', 'b', 'noise'], range: ['var(--good)', 'var(--bad)', 'var(--paper)'] },
            legend: null,
          },
        },
      },
      {
        mark: { type: 'text', align: 'left', baseline: 'middle', dx: 6, dy: -6, lineHeight: 13 },
        encoding: { y, x: { value: 'width' }, text: { field: 'text' } },
      },
    ],
  };
}

function describe(rows: readonly Drawn[], pair: Pair, title: string): string {
  const parts = rows.map(
    ({ metric, found: { ratio, words } }) =>
      `${metric.title} ${ratioText(ratio.median)}, interval ${range(ratio.low, ratio.high, ratioText)}, ${words}`,
  );
  return `Forest plot of ${pairName(pair)}, ${title}. ${parts.join('; ')}.`;
}
