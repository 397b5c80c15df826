/** The CNI configuration directory: every file that a runtime would look at, as text or with the reason why not. */
import { readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { CulvertError, isSystem, systemCause } from '../base/errors.ts';
import type { Found } from './choose.ts';
import { isConfName } from './network.ts';

/** No network configuration is larger; what a runtime passes on stdin is bounded by the same. */
const MAX_BYTES = 1 << 20;

/** @returns sorted by name; nothing while the directory is not there. @throws SYSTEM */
export async function readConfDirectory(confDir: string): Promise<Found[]> {
  let names: string[];
  try {
    names = await readdir(confDir);
  } catch (error) {
    if (isSystem(error, 'ENOENT')) return [];
    throw new CulvertError('SYSTEM', `read directory ${confDir}`, error);
  }
  return Promise.all(
    names
      .filter(isConfName)
      .sort()
      .map((name) => readConf(confDir, name)),
  );
}

async function readConf(confDir: string, name: string): Promise<Found> {
  const path = join(confDir, name);
  try {
    const { size, ...kind } = await about(path);
    if (!kind.file) return { name, unreadable: `it is ${kind.directory ? 'a directory' : 'no regular file'}` };
    if (size > MAX_BYTES) return { name, unreadable: `it has ${size} bytes, more than ${MAX_BYTES}` };
    // Not lenient: text that was not understood must not be written back.
    return { name, text: new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(await readFile(path)) };
  } catch (error) {
    return { name, unreadable: reason(error) };
  }
}

/** Asked before opening: opening a pipe would wait for its writer. */
async function about(path: string): Promise<{ size: number; file: boolean; directory: boolean }> {
  const found = await stat(path);
  return { size: found.size, file: found.isFile(), directory: found.isDirectory() };
}

function reason(error: unknown): string {
  const code = systemCause(error).systemCode;
  if (code === 'ENOENT') return 'it is a symbolic link to nothing';
  if (code === 'EACCES') return 'permission to read it is denied';
  if (code === 'ERR_ENCODING_INVALID_ENCODED_DATA') return 'it is not UTF-8';
  return error instanceof Error ? error.message : String(error);
}
