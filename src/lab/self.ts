/** How this program starts itself again in another role: the single executable, or Node with our entry file in development. */
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { isSea } from 'node:sea';
import { builtFile } from '../sys/assets.ts';

/** argv of `culvert`, to be followed by a role and its flags */
export function selfCommand(): string[] {
  const source = builtFile('../src/main.ts');
  return source === undefined ? [process.execPath] : [process.execPath, source];
}

/**
 * The built plugin beside the single executable; undefined in development, where it is this same entry file with CNI_COMMAND
 * set, so that plugin and agent are always of one tree.
 */
export function builtPlugin(): string | undefined {
  const beside = join(dirname(process.execPath), 'culvert-cni');
  return isSea() && existsSync(beside) ? beside : undefined;
}
