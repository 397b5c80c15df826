/** What a ring needs beyond `make build`, made just before it runs, so that the rings before it do not wait. */
import { spawn } from 'node:child_process';
import { accessSync, constants, statSync } from 'node:fs';
import { isAbsolute } from 'node:path';
import type { Failure } from './outcome.ts';
import type { Ring } from './ring.ts';

/** Each says itself what it does, and nothing when there is nothing to do. */
const NEEDS: Readonly<Partial<Record<Ring, string>>> = { cluster: 'scripts/tools.sh' };

/** @returns why a ring that needs something of its user's does nothing without it */
export function absence(ring: Ring): string | undefined {
  if (ring !== 'ztunnel' || process.env['CULVERT_TEST_ZTUNNEL'] !== undefined) return undefined;
  return "CULVERT_TEST_ZTUNNEL names no executable of Istio's ztunnel; docs/ztunnel.md says where to get one";
}

/** @returns why the ring cannot run */
export function meetNeeds(ring: Ring): Promise<Failure | undefined> {
  const program = process.env['CULVERT_TEST_ZTUNNEL'];
  if (ring === 'ztunnel' && program !== undefined && !isExecutable(program))
    return Promise.resolve({
      title: `ring ${ring}`,
      detail: `CULVERT_TEST_ZTUNNEL: "${program}" is not the absolute path of an executable`,
    });
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

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return isAbsolute(path) && statSync(path).isFile();
  } catch {
    return false;
  }
}
