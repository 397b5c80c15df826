/** The checks that are no tests, each a make target: passed when it exits with 0, else its whole output is the failure. */
import { spawn } from 'node:child_process';
import { availableParallelism } from 'node:os';
import { progress, type Outcome } from './outcome.ts';

/** Slowest first, so that a second processor is not idle at the end. */
const CHECKS: readonly string[] = ['lint', 'typecheck', 'fmt-check', 'gen-check'];

export async function runChecks(): Promise<Outcome[]> {
  const waiting = [...CHECKS];
  const outcomes: Outcome[] = [];
  const worker = async (): Promise<void> => {
    for (let target = waiting.shift(); target !== undefined; target = waiting.shift()) {
      const start = performance.now();
      const outcome = await check(target);
      progress(`make ${target}`, outcome, start);
      outcomes.push(outcome);
    }
  };
  await Promise.all(Array.from({ length: Math.min(2, availableParallelism()) }, worker));
  return outcomes;
}

function check(target: string): Promise<Outcome> {
  return new Promise((resolve) => {
    const child = spawn('make', [target], { stdio: ['ignore', 'pipe', 'pipe'] });
    const output: Buffer[] = [];
    child.stdout.on('data', (chunk: Buffer) => output.push(chunk));
    child.stderr.on('data', (chunk: Buffer) => output.push(chunk));
    child.on('close', (code) => {
      if (code === 0) resolve({ passed: 1, failures: [] });
      else resolve({ passed: 0, failures: [{ title: `make ${target}`, detail: Buffer.concat(output).toString().trimEnd() }] });
    });
  });
}
