/** Hidden role `bench-load`: lives inside a client's pod and runs loads as told, one JSON line each way. */
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import { describe } from '../base/errors.ts';
import { native, type LoadOrder, type LoadResult } from '../sys/native.ts';

export type LoadAnswer = { ok: true; result: LoadResult } | { ok: false; error: string };

/** What a fault in the benchmark itself must not become: a load that never ends, or one that takes the machine down. */
const LIMITS = { threads: 1024, milliseconds: 600_000, bytes: 128 * 1024 } as const;
const MODES: readonly string[] = ['connections', 'round-trips', 'bulk'];

/** One load at a time, in the order of the lines, until the input ends; a load under way ends with the process then. */
export async function runLoads(input: Readable, write: (text: string) => void): Promise<void> {
  write('{"ready":true}\n');
  for await (const line of createInterface({ input })) write(`${JSON.stringify(await answer(line))}\n`);
}

async function answer(line: string): Promise<LoadAnswer> {
  try {
    return { ok: true, result: await native.loadRun(parseOrder(line)) };
  } catch (error) {
    return { ok: false, error: describe(error) };
  }
}

/** @throws Error naming field and value */
export function parseOrder(line: string): LoadOrder {
  let order: Partial<Record<keyof LoadOrder, unknown>>;
  try {
    order = JSON.parse(line) as typeof order;
  } catch {
    throw new Error(`read load: no JSON: ${line.slice(0, 80)}`);
  }
  if (typeof order !== 'object' || (order as unknown) === null) throw new Error('read load: it is no object');
  const refuse = (field: keyof LoadOrder, must: string): never => {
    throw new Error(`read load: ${field} ${must}, it is ${JSON.stringify(order[field])}`);
  };
  const whole = (field: keyof LoadOrder, least: number, most: number): number => {
    const value = order[field];
    if (typeof value === 'number' && Number.isInteger(value) && value >= least && value <= most) return value;
    return refuse(field, `must be a whole number from ${least} to ${most}`);
  };
  const { mode, address, snapshots } = order;
  if (typeof mode !== 'string' || !MODES.includes(mode)) return refuse('mode', `must be one of ${MODES.join(', ')}`);
  if (typeof address !== 'string') return refuse('address', 'must be an address');
  if (!Array.isArray(snapshots) || !snapshots.every((each) => typeof each === 'string'))
    return refuse('snapshots', 'must be a list of paths');
  return {
    mode: mode as LoadOrder['mode'],
    address,
    snapshots,
    port: whole('port', 1, 65535),
    threads: whole('threads', 1, LIMITS.threads),
    warmMs: whole('warmMs', 0, LIMITS.milliseconds),
    measureMs: whole('measureMs', 1, LIMITS.milliseconds),
    bytes: whole('bytes', 1, LIMITS.bytes),
  };
}
