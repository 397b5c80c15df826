/** What `culvert bench` is asked to do. */
import { CulvertError } from '../base/errors.ts';
import { scenarios as allScenarios, tunnelKinds, type Scenario, type TunnelKind } from './report.ts';
import { defaultSizes, quickSizes, type TaskSizes } from './tasks.ts';

export interface BenchOptions {
  scenarios: Scenario[];
  tunnels: TunnelKind[];
  /** path of an external tunnel */
  ztunnel: string | undefined;
  rounds: number;
  nodes: 1 | 2;
  /** of one run */
  warmMs: number;
  measureMs: number;
  sizes: TaskSizes;
  /** a first look, without profiles and times of programming */
  quick: boolean;
  /** directory for report.json and report.html */
  out: string;
}

/** As they are typed. */
export interface BenchFlags {
  scenarios?: string;
  tunnel?: string;
  ztunnel?: string;
  rounds?: string;
  nodes?: string;
  seconds?: string;
  quick?: boolean;
  out: string;
}

/** Fewer rounds give no interval worth the name. */
export const LEAST_ROUNDS = 5;
const MOST_ROUNDS = 1000;
const FULL = {
  scenarios: ['direct', 'direct-2', 'iptables', 'ebpf', 'geneve'],
  tunnels: ['none', 'builtin'],
  rounds: 10,
  warmMs: 300,
  measureMs: 1500,
  sizes: defaultSizes,
} as const satisfies Partial<Record<keyof BenchOptions, unknown>>;
/** Rounds and times for an answer in some twenty seconds. */
const QUICK = {
  scenarios: ['direct', 'iptables', 'ebpf'],
  tunnels: ['none'],
  rounds: 3,
  warmMs: 100,
  measureMs: 300,
  sizes: quickSizes,
} as const satisfies Partial<Record<keyof BenchOptions, unknown>>;

/** @throws CulvertError USAGE naming flag and value */
export function parseOptions(flags: BenchFlags): BenchOptions {
  const quick = flags.quick ?? false;
  const preset = quick ? QUICK : FULL;
  const measureMs = flags.seconds === undefined ? preset.measureMs : seconds(flags.seconds) * 1000;
  const tunnels = listed('--tunnel', flags.tunnel, tunnelKinds) ?? [...preset.tunnels];
  if (tunnels.includes('external') && flags.ztunnel === undefined)
    throw new CulvertError('USAGE', 'read --tunnel external: --ztunnel PATH must say where its executable is');
  if (flags.ztunnel !== undefined && !tunnels.includes('external'))
    throw new CulvertError('USAGE', `read --ztunnel ${flags.ztunnel}: it is used by --tunnel external only`);
  return {
    scenarios: listed('--scenarios', flags.scenarios, allScenarios) ?? [...preset.scenarios],
    tunnels,
    ztunnel: flags.ztunnel,
    rounds: flags.rounds === undefined ? preset.rounds : whole('--rounds', flags.rounds, quick ? 1 : LEAST_ROUNDS, MOST_ROUNDS),
    nodes: flags.nodes === undefined ? 1 : (whole('--nodes', flags.nodes, 1, 2) as 1 | 2),
    warmMs: preset.warmMs,
    measureMs,
    sizes: preset.sizes,
    quick,
    out: flags.out,
  };
}

/** @returns undefined when the flag was not given */
function listed<T extends string>(flag: string, text: string | undefined, known: readonly T[]): T[] | undefined {
  if (text === undefined) return undefined;
  const names = text.split(',').map((name) => name.trim());
  for (const name of names)
    if (!(known as readonly string[]).includes(name))
      throw new CulvertError('USAGE', `read ${flag} ${text}: "${name}" is none of ${known.join(', ')}`);
  const twice = names.find((name, i) => names.indexOf(name) !== i);
  if (twice !== undefined) throw new CulvertError('USAGE', `read ${flag} ${text}: "${twice}" is named twice`);
  return names as T[];
}

function whole(flag: string, text: string, least: number, most: number): number {
  const value = /^\d+$/.test(text) ? Number(text) : Number.NaN;
  if (value >= least && value <= most) return value;
  throw new CulvertError('USAGE', `read ${flag} ${text}: it must be a whole number from ${least} to ${most}`);
}

function seconds(text: string): number {
  const value = /^\d+(\.\d+)?$/.test(text) ? Number(text) : Number.NaN;
  if (value >= 0.1 && value <= 60) return Math.round(value * 1000) / 1000;
  throw new CulvertError('USAGE', `read --seconds ${text}: it must be a number from 0.1 to 60`);
}

/** Why a scenario has no cells with a tunnel; undefined when it has. */
export function notApplicable(scenario: Scenario, tunnel: TunnelKind, nodes: number): string | undefined {
  if (scenario !== 'geneve') return undefined;
  if (tunnel !== 'none') return 'an in-pod tunnel has no listener for the whole node, which a node-level redirect needs';
  return nodes === 1 ? undefined : 'it is measured with one node';
}

/** Whether the client's connections go through a redirect and a tunnel at all. */
export function isRedirected(scenario: Scenario): boolean {
  return scenario !== 'direct' && scenario !== 'direct-2';
}

/** Whether the agent enrols the pods of a scenario. */
export function isEnrolled(scenario: Scenario): scenario is 'iptables' | 'nftables' | 'ebpf' {
  return scenario === 'iptables' || scenario === 'nftables' || scenario === 'ebpf';
}
