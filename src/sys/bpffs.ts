/** The file system that keeps BPF objects alive without a process. */
import { mkdirSync } from 'node:fs';
import { isSystem } from '../base/errors.ts';
import { native } from './native.ts';
import { attempt } from './system.ts';

const BPF_FS_MAGIC = 0xcafe4a11n;

/** Asked of the kernel, not of a mount table. False when nothing is at the path. @throws CulvertError SYSTEM */
export function isBpffs(path: string): boolean {
  return attempt(`stat file system of ${path}`, () => {
    try {
      return native.statfsType(path) === BPF_FS_MAGIC;
    } catch (error) {
      if (isSystem(error, 'ENOENT')) return false;
      throw error;
    }
  });
}

/**
 * Mounts a bpffs unless one is there. A second one on top would hide the first: its pins, and the programs they keep, would go on
 * working unseen beside the new ones.
 * @returns whether it was mounted now
 * @throws CulvertError SYSTEM
 */
export function mountBpffs(path: string): boolean {
  if (isBpffs(path)) return false;
  attempt(`mount bpffs on ${path}`, () => {
    mkdirSync(path, { recursive: true, mode: 0o700 });
    native.mount('bpffs', path, 'bpf', 0);
  });
  return true;
}
