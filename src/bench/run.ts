/** The whole benchmark: for each tunnel a lab, its rounds and profiles; then the report. */
import { availableParallelism } from 'node:os';
import { CulvertError } from '../base/errors.ts';
import { version } from '../base/version.ts';
import { findLabs } from '../lab/down.ts';
import { defaultHome, LabPaths, type LabHome } from '../lab/paths.ts';
import { requireRoot } from '../lab/root.ts';
import { checkTunnel } from '../lab/tunnels.ts';
import { isAlive } from '../sys/procfs.ts';
import { environmentOf, firstLine, loadNow, strangersOf } from './environment.ts';
import { measureAdd } from './add.ts';
import { isEnrolled, notApplicable, type BenchOptions } from './options.ts';
import { profileOf } from './profile.ts';
import { measureProgramming } from './programming.ts';
import type { Progress } from './progress.ts';
import type { NotApplicable, Profile, Report, Sample, Scenario, TunnelInfo, TunnelKind } from './report.ts';
import { measureRounds } from './rounds.ts';
import { setUp } from './setting.ts';
import { summarise } from './statistics/summary.ts';
import { tasksOf, type Task } from './tasks.ts';

export interface Bench {
  options: BenchOptions;
  /** for the report */
  command: string;
  progress: Progress;
  /** aborted: the lab is taken down, and the reason thrown */
  signal: AbortSignal;
  home?: LabHome;
}

const LAB_NAME = /^bench-(\d+)$/;

/** What all tunnels' labs give together. */
interface Collected {
  samples: Sample[];
  strangers: number[];
  profiles: Profile[];
  tunnels: TunnelInfo[];
  notApplicable: NotApplicable[];
  geneveDevice?: 'geneve' | 'vxlan';
}

/** @throws CulvertError NOT_ROOT, USAGE, LAB; the signal's reason. Nothing is left of its labs either way */
export async function runBench(bench: Bench): Promise<Report> {
  const { options, progress } = bench;
  const home = bench.home ?? defaultHome;
  requireRoot('run benchmark');
  if (options.ztunnel !== undefined) checkTunnel({ ztunnel: options.ztunnel });
  const others = runningBenches(home);
  if (others.length > 0 && !options.quick)
    throw new CulvertError(
      'LAB',
      `run benchmark: process ${others.join(', ')} measures already, and two at once measure each other; wait for its end`,
    );
  const started = new Date();
  const begin = performance.now();
  const environment = await environmentOf(options);
  const tasks = tasksOf(options.sizes);
  const collected: Collected = { samples: [], strangers: [], profiles: [], tunnels: [], notApplicable: [] };
  const plans = options.tunnels.map((tunnel) => ({ tunnel, scenarios: applicable(options, tunnel, collected.notApplicable) }));
  progress.expect(plans.reduce((sum, { scenarios }) => sum + scenarios.length * tasks.length * options.rounds, 0));
  for (const { tunnel, scenarios } of plans) if (scenarios.length > 0) await withTunnel(bench, home, tunnel, scenarios, tasks, collected);
  progress.clear();
  const { samples, strangers, profiles, tunnels } = collected;
  const invalidReasons = invalid(samples);
  const device = collected.geneveDevice === undefined ? {} : { geneveDevice: collected.geneveDevice };
  return {
    ...{ valid: invalidReasons.length === 0, invalidReasons, quick: options.quick },
    environment: { ...environment, loadAfter: loadNow(), strangers: strangersOf(strangers), ...device },
    ...{ command: bench.command, started: started.toISOString(), seconds: (performance.now() - begin) / 1000, rounds: options.rounds },
    ...summarise(samples),
    ...{ notApplicable: collected.notApplicable, profiles, tunnels, samples },
  };
}

async function withTunnel(
  { options, progress, signal }: Bench,
  home: LabHome,
  tunnel: TunnelKind,
  scenarios: readonly Scenario[],
  tasks: readonly Task[],
  collected: Collected,
): Promise<void> {
  const lab = new LabPaths(`bench-${process.pid}`, home);
  progress.step(`${tunnel}: building the lab`);
  const setting = await setUp(lab, options, tunnel, scenarios);
  const stop = (): void => {
    for (const { loader } of setting.pairs) loader.close(); // the run under way ends now
  };
  try {
    signal.throwIfAborted();
    signal.addEventListener('abort', stop, { once: true });
    const { witnesses, pairs } = setting;
    const rounds = { witnesses, pairs, tasks, rounds: options.rounds, timing: options, cpus: availableParallelism(), progress, signal };
    const { samples, strangers } = await measureRounds(rounds);
    collected.samples.push(...samples);
    collected.strangers.push(...strangers);
    if (setting.device !== undefined) collected.geneveDevice = setting.device;
    collected.tunnels.push(await describeTunnel(options, tunnel));
    if (options.quick) return;
    const [newConnections] = tasks;
    for (const pair of pairs) {
      const profile = newConnections === undefined ? undefined : await profileOf(lab, tunnel, pair, newConnections);
      signal.throwIfAborted();
      if (profile !== undefined) collected.profiles.push(profile);
    }
    if (tunnel !== options.tunnels[0]) return; // what follows has little or nothing to do with the tunnel
    const aside = { lab, tunnel, rounds: options.rounds, signal };
    progress.step(`${tunnel}: programming pods`);
    collected.samples.push(...(await measureProgramming(scenarios, aside)));
    progress.step(`${tunnel}: CNI ADD`);
    collected.samples.push(
      ...(await measureAdd(
        scenarios.filter((each) => each === 'direct' || isEnrolled(each)),
        aside,
      )),
    );
  } catch (error) {
    signal.throwIfAborted(); // what fails because it was interrupted is no fault
    throw error;
  } finally {
    signal.removeEventListener('abort', stop);
    await setting.close();
  }
}

function applicable({ scenarios, nodes }: BenchOptions, tunnel: TunnelKind, not: NotApplicable[]): Scenario[] {
  return scenarios.filter((scenario) => {
    const why = notApplicable(scenario, tunnel, nodes);
    if (why !== undefined) not.push({ scenario, tunnel, why });
    return why === undefined;
  });
}

async function describeTunnel({ ztunnel }: BenchOptions, kind: TunnelKind): Promise<TunnelInfo> {
  if (kind === 'none') return { kind, description: 'a stand-in that accepts and echoes by itself' };
  if (kind === 'builtin') return { kind, description: `culvert ztunnel ${version}` };
  const said = ztunnel === undefined ? undefined : await firstLine([ztunnel, 'version']);
  return {
    kind,
    description: said ?? 'an external ztunnel that does not tell its version',
    ...(ztunnel === undefined ? {} : { path: ztunnel }),
  };
}

/** One line per scenario, tunnel and reason. */
function invalid(samples: readonly Sample[]): string[] {
  const reasons = samples
    .filter(({ valid }) => !valid)
    .map(({ tunnel, scenario, metric, round, why }) => ({ key: `tunnel ${tunnel}, ${scenario}: ${why ?? 'void'}`, metric, round }));
  return [...Map.groupBy(reasons, ({ key }) => key)].map(([key, of]) => {
    const metrics = [...new Set(of.map(({ metric }) => metric))];
    const rounds = [...new Set(of.map(({ round }) => round))];
    return `${key} (${metrics.length === 1 ? metrics[0] : `${metrics.length} metrics`}, ${rounds.length === 1 ? `round ${rounds[0]}` : `${rounds.length} rounds`})`;
  });
}

/** Pids of benchmarks that live; what one that was killed left counts for nothing. */
function runningBenches(home: LabHome): number[] {
  return findLabs(home)
    .map((name) => Number(LAB_NAME.exec(name)?.[1] ?? 0))
    .filter((pid) => pid > 0 && pid !== process.pid && isAlive(pid));
}
