/** What is measured: kinds of load, and which metrics each gives. */
import type { LoadResult } from '../sys/native.ts';
import type { CpuUse } from './cpu.ts';

export interface Task {
  /** also what progress and profiles call it */
  name: string;
  mode: 'connections' | 'round-trips' | 'bulk';
  /** threads of the client, each with one connection at a time */
  threads: number;
  /** The values of one run that went well. */
  values(load: LoadResult, cpu: CpuUse): Value[];
}

export interface Value {
  metric: string;
  unit: string;
  value: number;
}

/** Bytes of one round trip, both ways each. */
export const ROUND_TRIP_BYTES = 128;

export interface TaskSizes {
  /** threads that open new connections */
  threads: number;
  /** of kept connections */
  kept: readonly number[];
  /** connections of bulk */
  streams: number;
}

export const defaultSizes: TaskSizes = { threads: 8, kept: [1, 8, 64], streams: 4 };
export const quickSizes: TaskSizes = { threads: 8, kept: [8], streams: 4 };

export function tasksOf({ threads, kept, streams }: TaskSizes): Task[] {
  return [connections(threads), ...kept.map(roundTrips), bulk(streams)];
}

/** Connect, one byte there and back, close. */
function connections(threads: number): Task {
  return {
    name: 'connections',
    mode: 'connections',
    threads,
    values: (load, cpu) => [
      { metric: 'connections', unit: '1/s', value: load.operations / load.seconds },
      { metric: 'connection-cpu', unit: 'µs', value: (cpu.ours / load.operations) * 1e6 },
    ],
  };
}

function roundTrips(kept: number): Task {
  return {
    name: `round-trips-${kept}`,
    mode: 'round-trips',
    threads: kept,
    values: (load, cpu) => [
      { metric: `round-trips-${kept}`, unit: '1/s', value: load.operations / load.seconds },
      ...(['p50', 'p99', 'p999'] as const).map((p) => ({ metric: `round-trip-${p}-${kept}`, unit: 'µs', value: load[p] })),
      ...(kept === 8 ? [{ metric: 'round-trip-cpu-8', unit: 'µs', value: (cpu.ours / load.operations) * 1e6 }] : []),
    ],
  };
}

function bulk(streams: number): Task {
  return {
    name: 'bulk',
    mode: 'bulk',
    threads: streams,
    values: (load, cpu) => [
      { metric: 'bulk', unit: 'Gbit/s', value: (load.bytes * 8) / load.seconds / 1e9 },
      { metric: 'bulk-cpu', unit: 's/GB', value: cpu.ours / (load.bytes / 1e9) },
    ],
  };
}
