/** What a ring needs beyond `make build`, made just before it runs, so that the rings before it do not wait. */
import { spawn } from 'node:child_process';
import type { Failure } from './outcome.ts';
import type { Ring } from './ring.ts';

/** Each says itself what it does, and nothing when there is nothing to do. */
const NEEDS: Readonly<Partial<Record<Ring, string>>> = { cluster: 'scripts/tools.sh' };

/** @returns why the ring cannot run */
export function meetNeeds(ring: Ring): Promise<Failure | undefined> {
  const command = NEEDS[ring];
  if (command === undefined) return Promise.resolve(undefined);
  return new Promise((resolve) => {
    const child = spawn(command, { stdio: ['ignore', 'inherit', 'pipe'] });
    const output: Buffer[] = [];
    child.stderr.on('data', (chunk: Buffer) => output.push(chunk));
    child.on('error', (error) => resolve({ title: `ring ${ring}: ${command}`, detail: error.message }));
    child.on('close', (code) => {
      resolve(code === 0 ? undefined : { title: `ring ${ring}: ${command}`, detail: Buffer.concat(output).toString().trimEnd() });
    });
  });
}
