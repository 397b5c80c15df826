/** Long-running processes of a lab: started inside their cgroup and namespace, recorded by pid and start time, found again later. */
import { spawn } from 'node:child_process';
import { closeSync, existsSync, mkdirSync, openSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import type { Socket } from 'node:net';
import { basename, join } from 'node:path';
import { CulvertError, isSystem } from '../base/errors.ts';
import { startTime } from '../sys/procfs.ts';
import { inNetns } from './network/netns.ts';

/** A pid alone may have been given to somebody else; with the start time it is unique until reboot. */
export interface ProcessRecord {
  pid: number;
  /** field 22 of /proc/PID/stat, in clock ticks since boot */
  startTime: string;
}

export interface Launch {
  argv: string[];
  netns: string;
  cgroup: string;
  log: string;
  env?: Record<string, string>;
  /** where to record it: directory and name */
  record: { dir: string; name: string };
  /** wait until the program writes a line to file descriptor 3 */
  awaitReady?: boolean;
  readyTimeoutMs?: number;
}

/**
 * Starts a process that outlives this one. The shell enters the cgroup before anything of the program runs, so that no socket of
 * it is ever made outside; shell and nsenter exec, so the pid is the program's.
 * @throws CulvertError LAB when it ends or stays silent before being ready, with the end of its log
 */
export async function launch(options: Launch): Promise<ProcessRecord> {
  const argv = ['-c', 'echo $$ > "$0/cgroup.procs" && exec "$@"', options.cgroup, ...inNetns(options.netns, options.argv)];
  const log = openSync(options.log, 'a', 0o644);
  const child = spawn('sh', argv, {
    detached: true,
    stdio: ['ignore', log, log, options.awaitReady === true ? 'pipe' : 'ignore'],
    env: { ...process.env, ...options.env },
  });
  closeSync(log);
  if (child.pid === undefined) throw new CulvertError('LAB', `start ${options.record.name}: sh could not be run`);
  const record = { pid: child.pid, startTime: startTimeOf(child.pid) ?? '' };
  mkdirSync(options.record.dir, { recursive: true });
  writeFileSync(join(options.record.dir, `${options.record.name}.json`), JSON.stringify(record));
  if (options.awaitReady === true) await ready(child, options);
  child.unref();
  return record;
}

async function ready(child: ReturnType<typeof spawn>, options: Launch): Promise<void> {
  const pipe = child.stdio[3] as Socket;
  const failed = (cause: string): CulvertError =>
    new CulvertError('LAB', `start ${options.record.name}: ${cause}; its log ends: ${tail(options.log)}`);
  await new Promise<void>((resolve, reject) => {
    const deadline = setTimeout(() => {
      reject(failed('not ready in time'));
    }, options.readyTimeoutMs ?? 15_000);
    const settle = (act: () => void): void => {
      clearTimeout(deadline);
      child.removeAllListeners('exit');
      act();
    };
    pipe.once('data', () => {
      settle(resolve);
    });
    child.once('exit', (code, signal) => {
      settle(() => {
        reject(failed(`it ended with ${signal ?? `exit code ${code}`}`));
      });
    });
  }).finally(() => {
    pipe.destroy();
  });
}

export function tail(path: string, lines = 3): string {
  try {
    return readFileSync(path, 'utf8').trimEnd().split('\n').slice(-lines).join(' / ') || 'it is empty';
  } catch {
    return 'there is none';
  }
}

/** undefined when there is no such process, or only its zombie; text, because it is written to JSON */
export function startTimeOf(pid: number): string | undefined {
  return startTime(pid)?.toString();
}

export function readRecord(dir: string, name: string): ProcessRecord | undefined {
  try {
    return JSON.parse(readFileSync(join(dir, `${name}.json`), 'utf8')) as ProcessRecord;
  } catch {
    return undefined;
  }
}

export function records(dir: string): { name: string; record: ProcessRecord }[] {
  let names: string[];
  try {
    names = readdirSync(dir);
  } catch {
    return [];
  }
  return names.flatMap((file) => {
    const name = basename(file, '.json');
    const record = readRecord(dir, name);
    return record === undefined ? [] : [{ name, record }];
  });
}

export function forgetRecord(dir: string, name: string): void {
  rmSync(join(dir, `${name}.json`), { force: true });
}

export function isAlive(record: ProcessRecord | undefined): boolean {
  return record !== undefined && startTimeOf(record.pid) === record.startTime;
}

/** Stronger than not alive: every thread has ended, so its sockets are closed, which a zombie's may not be yet. */
export function isGone(record: ProcessRecord | undefined): boolean {
  return record === undefined || !existsSync(`/proc/${record.pid}`) || (!isAlive(record) && startTimeOf(record.pid) !== undefined);
}

/** @returns false when it is gone already */
export function signal(record: ProcessRecord | undefined, name: NodeJS.Signals): boolean {
  if (record === undefined || !isAlive(record)) return false;
  try {
    process.kill(record.pid, name);
    return true;
  } catch (error) {
    if (isSystem(error, 'ESRCH')) return false;
    throw error;
  }
}
