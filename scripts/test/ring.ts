/** Runs one ring of tests in vitest and turns what its reporter says on file descriptor 3 into an outcome. */
import { spawn } from 'node:child_process';
import { chmodSync, closeSync, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import { absence, meetNeeds } from './needs.ts';
import { progress, tell, type Outcome } from './outcome.ts';
import type { ModuleEnd, RunEnd } from './reporter.ts';
import { ringDirectoryPrefix } from './killed.ts';
import { judgeSkip } from './skips.ts';

export type Ring = 'unit' | 'bpf' | 'netns' | 'cluster' | 'ztunnel';

/** Of `make test`, in the order they run: what costs nothing first. */
export const RINGS: readonly Ring[] = ['unit', 'bpf', 'netns', 'cluster'];

/** With those that run only when they are asked for: they need what not everybody has. */
export const ALL_RINGS: readonly Ring[] = [...RINGS, 'ztunnel'];

export const isRing = (name: string): name is Ring => (ALL_RINGS as readonly string[]).includes(name);

/** A ring that hangs must end before the patience of whoever started it. */
const LIMIT_SECONDS: Record<Ring, number> = { unit: 180, bpf: 180, netns: 900, cluster: 1800, ztunnel: 1800 };
const LOG_TAIL = 60;

export async function runRing(ring: Ring): Promise<Outcome> {
  const absent = absence(ring);
  if (absent !== undefined) {
    console.log(`  SKIP     ring ${ring}: ${absent}`);
    return { passed: 0, failures: [] };
  }
  const unmet = await meetNeeds(ring);
  const start = performance.now();
  const outcome: Outcome = { passed: 0, failures: unmet === undefined ? [] : [unmet] };
  if (unmet !== undefined) {
    progress(`ring ${ring}`, outcome, start);
    return outcome;
  }
  mkdirSync('build/test', { recursive: true });
  const path = `build/test/${ring}.log`;
  const log = openSync(path, 'w');
  // One temporary directory for the ring, so that no test has to remember to remove its own.
  const temporary = mkdtempSync(join(tmpdir(), ringDirectoryPrefix()));
  chmodSync(temporary, 0o711); // tests that act as somebody else must get through to what is theirs
  const child = spawn(
    process.execPath,
    ['node_modules/vitest/vitest.mjs', 'run', '--project', ring, '--reporter', './scripts/test/reporter.ts', '--passWithNoTests'],
    { stdio: ['ignore', log, log, 'pipe'], env: { ...process.env, TMPDIR: temporary } },
  );
  closeSync(log);
  const exited = new Promise<number | null>((resolve) =>
    child.once('exit', (code) => {
      resolve(code);
    }),
  );
  const run = { late: false, ended: false };
  const limit = setTimeout(() => {
    run.late = true;
    child.kill('SIGKILL');
  }, LIMIT_SECONDS[ring] * 1000);

  for await (const line of createInterface({ input: child.stdio[3] as Readable })) {
    const event = JSON.parse(line) as ModuleEnd | RunEnd;
    if (event.type === 'end') {
      run.ended = true;
      const outside = event.errors.map((detail) => ({ title: `${ring}: outside of any test`, detail }));
      for (const failure of outside) tell(failure);
      outcome.failures.push(...outside);
      continue;
    }
    const module: Outcome = { passed: event.passed, failures: event.failures };
    for (const skip of event.skipped) {
      const verdict = judgeSkip(skip.note);
      if (verdict.allowed) console.log(`  SKIP     ${skip.title}: ${verdict.reason}`);
      else module.failures.push({ title: skip.title, detail: verdict.reason });
    }
    progress(event.path, module, performance.now() - event.seconds * 1000);
    for (const failure of module.failures) tell(failure);
    outcome.passed += module.passed;
    outcome.failures.push(...module.failures);
  }
  const code = await exited;
  clearTimeout(limit);
  rmSync(temporary, { recursive: true, force: true });

  const tail = (): string => readFileSync(path, 'utf8').split('\n').slice(-LOG_TAIL).join('\n').trim();
  if (run.late) outcome.failures.push({ title: `ring ${ring}`, detail: `not done after ${String(LIMIT_SECONDS[ring])} s\n${tail()}` });
  else if (!run.ended || (code !== 0 && outcome.failures.length === 0)) {
    outcome.failures.push({ title: `ring ${ring}`, detail: `vitest exited with ${String(code)}\n${tail()}` });
  } else if (outcome.passed + outcome.failures.length === 0) {
    outcome.failures.push({ title: `ring ${ring}`, detail: 'no test ran' });
  }
  progress(`ring ${ring} (log: ${path})`, outcome, start);
  return outcome;
}
