/** The measured rounds of one tunnel: every kind of load, every scenario, in balanced order. */
import type { Witnesses } from './evidence.ts';
import { balanced } from './interleave.ts';
import { measure, type Timing } from './measure.ts';
import type { Pair } from './pair.ts';
import type { Progress } from './progress.ts';
import type { Sample } from './report.ts';
import type { Task } from './tasks.ts';

export interface Rounds {
  witnesses: Witnesses;
  pairs: readonly Pair[];
  tasks: readonly Task[];
  rounds: number;
  timing: Timing;
  cpus: number;
  progress: Progress;
  signal: AbortSignal;
}

export interface Measured {
  samples: Sample[];
  /** shares of the machine that others had, run by run */
  strangers: number[];
}

/** @throws the signal's reason when it is aborted */
export async function measureRounds({ witnesses, pairs, tasks, rounds, timing, cpus, progress, signal }: Rounds): Promise<Measured> {
  const samples: Sample[] = [];
  const strangers: number[] = [];
  const lost = new Set<Pair>();
  for (let round = 1; round <= rounds; round += 1) {
    const fresh: Sample[] = [];
    for (const task of tasks) {
      for (const pair of balanced(pairs, round - 1)) {
        progress.step(`${witnesses.tunnel}: round ${round} of ${rounds}, ${task.name}, ${pair.scenario}`);
        const run = await measure(witnesses, pair, task, round, timing, cpus);
        signal.throwIfAborted();
        fresh.push(...run.samples);
        if (pair.lost !== undefined && !lost.has(pair)) progress.line(`${pair.scenario} is measured no more: ${pair.lost}`);
        if (pair.lost !== undefined) lost.add(pair);
        if (run.strangers !== undefined) strangers.push(run.strangers);
      }
    }
    samples.push(...fresh);
    progress.round(`round ${round} of ${rounds}, tunnel ${witnesses.tunnel}: ${summaryOf(fresh)}`);
  }
  return { samples, strangers };
}

/** New connections per second, scenario by scenario, and how many samples are void. */
function summaryOf(samples: readonly Sample[]): string {
  const rates = samples
    .filter(({ metric }) => metric === 'connections')
    .map(({ scenario, value, valid }) => `${scenario} ${valid ? Math.round(value) : 'void'}`);
  const bad = samples.filter(({ valid }) => !valid).length;
  return `connections/s ${rates.join(', ')}${bad === 0 ? '' : `; ${bad} of ${samples.length} samples void`}`;
}
