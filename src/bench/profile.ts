/**
 * Where a new connection's time goes, scenario by scenario: in runs of their own, because the kernel's statistics of BPF programs cost
 * time themselves. They are on only while their descriptor is open, whatever ends this process.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { native } from '../sys/native.ts';
import { nodesOf } from '../lab/down.ts';
import { daemonRecord } from '../lab/daemons.ts';
import type { LabPaths } from '../lab/paths.ts';
import { cpuUse } from './cpu.ts';
import type { Pair } from './pair.ts';
import type { Profile, ProgramProfile, TunnelKind } from './report.ts';
import { ROUND_TRIP_BYTES, type Task } from './tasks.ts';

const MEASURE_MS = 1000;

/** By name of the program; those of all pods that bear one name are one. */
type RunTimes = Map<string, { ns: number; runs: number }>;

/** @returns undefined for a pair that can be measured no more */
export async function profileOf(lab: LabPaths, tunnel: TunnelKind, pair: Pair, task: Task): Promise<Profile | undefined> {
  if (pair.lost !== undefined) return undefined;
  const statistics = native.bpfEnableStats();
  try {
    const pids = [pair.server.process?.pid, ...nodesOf(lab).map((node) => daemonRecord(lab, node, 'ztunnel')?.pid)];
    const before = { programs: runTimes(lab), switches: switchesOf(pids) };
    const load = await pair.loader.run({
      ...pair.target,
      ...{ mode: task.mode, threads: task.threads, warmMs: 0, measureMs: MEASURE_MS, bytes: ROUND_TRIP_BYTES, snapshots: pair.cpuFiles },
    });
    const cpu = cpuUse(load.before, load.after);
    const others = (switchesOf(pids) - before.switches) / load.allOperations;
    return {
      ...{ scenario: pair.scenario, tunnel, metric: task.name, operations: load.allOperations },
      programs: programsOf(before.programs, runTimes(lab), load.allOperations),
      contextSwitchesPerOperation: load.switches / load.operations + others,
      userMicros: (cpu.user / load.operations) * 1e6,
      systemMicros: (cpu.system / load.operations) * 1e6,
    };
  } finally {
    native.closeFd(statistics);
  }
}

function programsOf(before: RunTimes, after: RunTimes, operations: number): ProgramProfile[] {
  return [...after]
    .map(([program, { ns, runs }]) => ({
      program,
      ns: ns - (before.get(program)?.ns ?? 0),
      runs: runs - (before.get(program)?.runs ?? 0),
    }))
    .filter(({ runs }) => runs > 0)
    .map(({ program, ns, runs }) => ({ program, runs, nsPerRun: ns / runs, runsPerOperation: runs / operations }))
    .toSorted((a, b) => b.nsPerRun * b.runs - a.nsPerRun * a.runs);
}

/** Of everything that the lab's agents have pinned: the node's programs, and each pod's through its link. */
function runTimes(lab: LabPaths): RunTimes {
  const times: RunTimes = new Map();
  const add = (fd: number, name: string): void => {
    try {
      const { runTimeNs = 0, runCount = 0 } = native.bpfInfo(fd);
      const sum = times.get(name) ?? { ns: 0, runs: 0 };
      times.set(name, { ns: sum.ns + runTimeNs, runs: sum.runs + runCount });
    } finally {
      native.closeFd(fd);
    }
  };
  for (const node of nodesOf(lab)) {
    const { pinDir } = lab.node(node);
    for (const name of list(join(pinDir, 'progs'))) add(native.bpfGet(join(pinDir, 'progs', name)), name);
    for (const pod of list(join(pinDir, 'pods'))) {
      if (!list(join(pinDir, 'pods', pod)).includes('lookup')) continue;
      const link = native.bpfGet(join(pinDir, 'pods', pod, 'lookup'));
      try {
        add(native.bpfProgramById(native.bpfInfo(link).progId ?? 0), 'lookup');
      } finally {
        native.closeFd(link);
      }
    }
  }
  return times;
}

/** Voluntary and involuntary, of all threads that live now. */
function switchesOf(pids: readonly (number | undefined)[]): number {
  return pids
    .filter((pid) => pid !== undefined)
    .flatMap((pid) => list(`/proc/${pid}/task`).map((task) => readFileSync(`/proc/${pid}/task/${task}/status`, 'utf8')))
    .flatMap((status) => [...status.matchAll(/^(?:non)?voluntary_ctxt_switches:\s*(\d+)$/gm)].map(([, count]) => Number(count)))
    .reduce((sum, count) => sum + count, 0);
}

function list(dir: string): string[] {
  try {
    return readdirSync(dir);
  } catch {
    return []; // no such driver on this node, or the process is gone
  }
}
