/** One run: one kind of load of one scenario, judged, as samples. */
import { describe } from '../base/errors.ts';
import type { LoadResult } from '../sys/native.ts';
import { cpuUse, strangersShare } from './cpu.ts';
import { difference, forgetLog, pathOf, readEvidence, type Witnesses } from './evidence.ts';
import { conntrackEntries, vanished, type Pair } from './pair.ts';
import type { Sample } from './report.ts';
import { ROUND_TRIP_BYTES, type Task } from './tasks.ts';
import { faultOf } from './validity.ts';
import { setTimeout as delay } from 'node:timers/promises';

export interface Timing {
  warmMs: number;
  measureMs: number;
}

export interface Run {
  samples: Sample[];
  /** share of the machine that others had meanwhile; undefined when nothing was measured */
  strangers: number | undefined;
}

/** A tunnel writes its access log behind the connections' backs. */
const COUNTERS_MS = 2000;
const COUNTERS_INTERVAL_MS = 50;

/** Never rejects for what becomes of the pods: then the samples are void and say why. */
export async function measure(
  witnesses: Witnesses,
  pair: Pair,
  task: Task,
  round: number,
  { warmMs, measureMs }: Timing,
  cpus: number,
): Promise<Run> {
  const sample = { round, scenario: pair.scenario, tunnel: witnesses.tunnel };
  const voided = (why: string): Run => ({
    strangers: undefined,
    samples: metricsOf(task).map((value) => ({ ...sample, ...value, valid: false, why })),
  });
  if (pair.lost !== undefined) return voided(pair.lost);
  try {
    forgetLog(witnesses, pair);
    const before = await readEvidence(witnesses, pair);
    const load = await pair.loader.run({
      ...pair.target,
      ...{ mode: task.mode, threads: task.threads, warmMs, measureMs, bytes: ROUND_TRIP_BYTES, snapshots: pair.cpuFiles },
    });
    const conntrack = task.mode === 'connections' ? [{ metric: 'conntrack', unit: 'entries', value: conntrackEntries(pair) }] : [];
    const gone = vanished(pair);
    if (gone !== undefined) throw new Error(gone);
    const fault = await judged(witnesses, pair, task, load, before);
    const cpu = cpuUse(load.before, load.after);
    const values = [...task.values(load, cpu), ...conntrack];
    return {
      strangers: strangersShare(cpu, load.seconds, cpus),
      samples: values.map((value) => ({
        ...sample,
        ...value,
        ...(Number.isFinite(value.value) ? {} : { value: 0 }),
        ...(fault === undefined ? { valid: true } : { valid: false, why: fault }),
      })),
    };
  } catch (error) {
    pair.lost = vanished(pair) ?? describe(error);
    return voided(pair.lost);
  }
}

/** @returns what speaks against the run, once the counters had time to catch up */
async function judged(
  witnesses: Witnesses,
  pair: Pair,
  task: Task,
  load: LoadResult,
  before: Awaited<ReturnType<typeof readEvidence>>,
): Promise<string | undefined> {
  const deadline = performance.now() + COUNTERS_MS;
  for (;;) {
    const seen = difference(await readEvidence(witnesses, pair), before);
    const fault = faultOf(task.mode, load, seen, pathOf(pair, witnesses.tunnel));
    if (fault === undefined || performance.now() > deadline) return fault;
    await delay(COUNTERS_INTERVAL_MS);
  }
}

const NOTHING: LoadResult = {
  ...{ seconds: 1, operations: 0, allOperations: 0, bytes: 0, allBytes: 0, connections: 0, p50: 0, p99: 0, p999: 0, switches: 0 },
  ...{ errors: {}, before: [], after: [] },
};

/** The metrics that a task would have given. */
export function metricsOf(task: Task): { metric: string; unit: string; value: number }[] {
  const values = task.values(NOTHING, { ours: 0, user: 0, system: 0, machine: 0 });
  const conntrack = task.mode === 'connections' ? [{ metric: 'conntrack', unit: 'entries', value: 0 }] : [];
  return [...values, ...conntrack].map((each) => ({ ...each, value: 0 }));
}
