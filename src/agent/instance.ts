/** The id by which this agent knows its own pins again: made once, kept with the node's state. */
import { randomBytes } from 'node:crypto';
import { linkSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { CulvertError, isSystem } from '../base/errors.ts';

export function instancePath(stateDir: string): string {
  return join(stateDir, 'instance');
}

/** @throws CONFIG_INVALID when the file holds something else: a new id would make strangers of our own pins */
export function instanceId(stateDir: string): bigint {
  const path = instancePath(stateDir);
  mkdirSync(stateDir, { recursive: true });
  const temporary = `${path}.${process.pid}`;
  try {
    writeFileSync(temporary, `${randomBytes(8).toString('hex')}\n`, { mode: 0o600 });
    linkSync(temporary, path); // fails when one is there: two that start at once agree
  } catch (error) {
    if (!isSystem(error, 'EEXIST')) throw new CulvertError('SYSTEM', `make instance id ${path}`, error);
  } finally {
    rmSync(temporary, { force: true });
  }
  return readInstanceId(path);
}

/** Of an agent that ran here. @returns undefined when none did. @throws as instanceId */
export function knownInstanceId(stateDir: string): bigint | undefined {
  try {
    return readInstanceId(instancePath(stateDir));
  } catch (error) {
    if (isSystem(error, 'ENOENT')) return undefined;
    throw error;
  }
}

function readInstanceId(path: string): bigint {
  const text = readFileSync(path, 'utf8').trim();
  const id = /^[0-9a-f]{16}$/.test(text) ? BigInt(`0x${text}`) : 0n;
  if (id === 0n)
    throw new CulvertError(
      'CONFIG_INVALID',
      `read instance id: ${path} does not hold 16 hexadecimal digits; remove it when no pod is enrolled`,
    );
  return id;
}
