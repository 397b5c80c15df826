/** What a run says, in sentences that claim no more than its intervals do; what speaks against us is in them by name. */
import type { Report, TunnelKind } from '../report.ts';
import { ENOUGH_ROUNDS } from '../statistics/interval.ts';
import { isTwin } from '../statistics/verdict.ts';
import { SCENARIOS, TUNNELS, WITHOUT_TUNNEL } from './catalogue.ts';
import { count, list, range, ratioText } from './format.ts';
import { pairName, sectionsOf, type Section } from './view.ts';

/** How far the numbers can be relied on. Empty when nothing speaks against them. */
export function cautions(report: Report): string[] {
  const { strangers } = report.environment;
  return [
    ...(report.valid ? [] : [`This run is not valid: ${some(report.invalidReasons, 2) || 'no reason given'}.`]),
    ...(report.quick ? ['This is a first look (--quick): few and short rounds, not to be quoted.'] : []),
    ...(report.rounds < ENOUGH_ROUNDS
      ? [`It has only ${count(report.rounds, 'round')}; below ${ENOUGH_ROUNDS} an interval promises little, hence “better?”.`]
      : []),
    ...(report.ratios.length > 0 && !report.ratios.some(isTwin)
      ? ['It has no A/A pair (scenarios direct and direct-2), so how far apart equal things come out on this machine is not known.']
      : []),
    ...(strangers.max > 0.2
      ? [`Other work took up to ${Math.round(strangers.max * 100)} % of the processors meanwhile; ratios inside a round suffer least.`]
      : []),
  ];
}

export interface Finding {
  /** "With the built-in tunnel" */
  lead: string;
  sentences: string[];
}

/** For each tunnel: how ebpf and iptables compare over all metrics, and what ebpf costs. */
export function findings(report: Report): Finding[] {
  return sectionsOf(report).map((section) => ({ lead: LEADS[section.tunnel], sentences: [overall(section), ...cpuTimes(section)] }));
}

const LEADS = {
  builtin: 'With the built-in tunnel',
  external: 'With the external ztunnel',
  none: 'With the stand-in for a tunnel',
} as const;

function overall({ rows }: Section): string {
  const compared = rows.flatMap((row) => {
    const found = row.compared.get(pairName({ a: 'ebpf', b: 'iptables' }));
    return found === undefined ? [] : [{ title: row.metric.title, ...found }];
  });
  if (compared.length === 0) return 'No metric has both ebpf and iptables.';
  const won = compared.filter(({ winner }) => winner === 'ebpf');
  const lost = compared.filter(({ winner }) => winner === 'iptables');
  const open = compared.filter(({ winner }) => winner === undefined);
  const losses =
    lost.length === 0 ? 'in none' : `in ${lost.length} (${lost.map(({ title, ratio }) => `${title}: ${told(ratio)}`).join('; ')})`;
  const undecided =
    open.length === 0
      ? ''
      : `; ${open.length} cannot be told apart (${some(
          open.map(({ title }) => title),
          6,
        )})`;
  const few = compared.some(({ ratio }) => ratio.rounds < ENOUGH_ROUNDS) ? 'As far as so few rounds can tell, ' : '';
  return `${few}ebpf is better than iptables in ${won.length} of ${count(compared.length, 'metric')}, iptables is better ${losses}${undecided}.`;
}

/** The first ones, and how many more there are: the tables and the section on validity have all. */
function some(texts: readonly string[], most: number): string {
  const more = texts.length - most;
  return [...texts.slice(0, most), ...(more > 0 ? [`and ${more} more`] : [])].join('; ');
}

/** The figures that hold on few processors: CPU time per operation. */
function cpuTimes({ rows }: Section): string[] {
  return rows
    .filter(({ name }) => name.endsWith('-cpu') || name.includes('-cpu-'))
    .flatMap(({ metric, compared }) => {
      const ratios = ['iptables', 'direct'].flatMap((b) => {
        const found = compared.get(pairName({ a: 'ebpf', b }));
        return found === undefined ? [] : [`${told(found.ratio)} times that of ${b}`];
      });
      return ratios.length === 0 ? [] : [`${metric.title} with ebpf: ${list(ratios)}.`];
    });
}

function told({ median, low, high }: { median: number; low: number; high: number }): string {
  return `${ratioText(median)} (${range(low, high, ratioText)})`;
}

/** "Tunnel builtin: Culvert's built-in tunnel (its version)" */
export function heading({ tunnel, info }: Section): string {
  const description = info?.description ?? '';
  const said = TUNNELS[tunnel].startsWith(description);
  return `Tunnel ${tunnel}: ${TUNNELS[tunnel]}${said ? '' : ` (${description})`}`;
}

export function scenarioText(name: string, tunnel: TunnelKind): string {
  if (tunnel === 'none' && name in WITHOUT_TUNNEL) return WITHOUT_TUNNEL[name] ?? '';
  return SCENARIOS[name] ?? 'a scenario that this version does not know';
}
