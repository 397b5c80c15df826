/**
 * A report arranged for reading, the same for terminal, page and Markdown: a section for each tunnel, a row for each metric, a column for
 * each scenario and for each pair that is compared. What is missing says why.
 */
import { scenarios, type Cell, type Ratio, type Report, type TunnelInfo, type TunnelKind } from '../report.ts';
import { fewNote } from '../statistics/cells.ts';
import { ENOUGH_ROUNDS } from '../statistics/interval.ts';
import { bandOf, isTwin, verdictOf, type Band } from '../statistics/verdict.ts';
import { inOrder, metricOf, type Metric } from './catalogue.ts';
import { percent } from './format.ts';

export type Shown =
  | { kind: 'value'; cell: Cell; why?: string }
  | { kind: 'void'; why: string }
  | { kind: 'not-applicable'; why: string }
  /** the scenario has no such metric: without a redirect there is nothing to program */
  | { kind: 'none' };

export interface Compared {
  ratio: Ratio;
  /** "ebpf better", "iptables better", "within noise"; "ebpf better?" of few rounds; for the A/A pair its band */
  words: string;
  /** the scenario that did better; absent within noise and for the A/A pair */
  winner?: string;
}

export interface Pair {
  a: string;
  b: string;
  twin: boolean;
}

export interface Row {
  name: string;
  metric: Metric;
  unit: string;
  /** By scenario. */
  shown: Map<string, Shown>;
  /** By `pairName`. */
  compared: Map<string, Compared>;
  band: Band;
}

export interface Section {
  tunnel: TunnelKind;
  info: TunnelInfo | undefined;
  scenarios: string[];
  pairs: Pair[];
  rows: Row[];
}

export const pairName = ({ a, b }: Pick<Pair, 'a' | 'b'>): string => `${a} / ${b}`;

export function sectionsOf(report: Report): Section[] {
  const tunnels = new Set([...report.tunnels.map(({ kind }) => kind), ...report.cells.map(({ tunnel }) => tunnel)]);
  return [...tunnels].map((tunnel) => sectionOf(report, tunnel)).filter(({ rows }) => rows.length > 0);
}

function sectionOf(report: Report, tunnel: TunnelKind): Section {
  const cells = report.cells.filter((cell) => cell.tunnel === tunnel);
  const ratios = report.ratios.filter((ratio) => ratio.tunnel === tunnel);
  const absent = report.notApplicable.filter((cell) => cell.tunnel === tunnel);
  const named = new Set([...cells, ...absent].map(({ scenario }) => scenario));
  const columns = [...scenarios.filter((name) => named.delete(name)), ...named];
  const pairs = [...new Map(ratios.map(({ a, b }) => [pairName({ a, b }), { a, b, twin: isTwin({ a, b }) }])).values()];
  return {
    tunnel,
    info: report.tunnels.find(({ kind }) => kind === tunnel),
    scenarios: columns,
    // The noise stands beside every ratio, and last.
    pairs: pairs.sort((one, other) => Number(one.twin) - Number(other.twin)),
    rows: inOrder(cells.map(({ metric }) => metric)).map((name) => {
      const band = bandOf(ratios, name, tunnel);
      const metric = metricOf(name);
      return {
        name,
        metric,
        unit: cells.find((cell) => cell.metric === name)?.unit ?? '',
        shown: new Map(columns.map((scenario) => [scenario, shownOf(cells, absent, scenario, name, report.rounds)])),
        compared: new Map(
          ratios.filter((ratio) => ratio.metric === name).map((ratio) => [pairName(ratio), comparedOf(ratio, band, metric)]),
        ),
        band,
      };
    }),
  };
}

function shownOf(cells: readonly Cell[], absent: Report['notApplicable'], scenario: string, metric: string, rounds: number): Shown {
  const cell = cells.find((candidate) => candidate.scenario === scenario && candidate.metric === metric);
  if (cell !== undefined && !cell.valid) return { kind: 'void', why: cell.note ?? 'no reason given' };
  // That the whole run is short is said once, for all cells.
  const note = cell?.note === fewNote(rounds) ? undefined : cell?.note;
  if (cell !== undefined) return { kind: 'value', cell, ...(note === undefined ? {} : { why: note }) };
  const why = absent.find((candidate) => candidate.scenario === scenario)?.why;
  return why === undefined ? { kind: 'none' } : { kind: 'not-applicable', why };
}

function comparedOf(ratio: Ratio, band: Band, metric: Metric): Compared {
  if (isTwin(ratio)) return { ratio, words: `noise ±${percent(band.high - 1)}` };
  if (metric.better === undefined) return { ratio, words: 'neither way is better' };
  const verdict = verdictOf(ratio, band, metric.better);
  if (verdict === 'noise') return { ratio, words: band.measured ? 'within noise' : 'undecided' };
  const winner = ratio[verdict];
  return { ratio, words: `${winner} better${ratio.rounds < ENOUGH_ROUNDS ? '?' : ''}`, winner };
}
