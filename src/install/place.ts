/**
 * Files put on the host whole: made beside the target, synced, renamed. A reader sees the old or the new one, and what an interrupted
 * run left beside it is removed by the next.
 */
import { randomBytes } from 'node:crypto';
import { copyFile, mkdir, open, readdir, rename, rm, stat, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { CulvertError, isSystem } from '../base/errors.ts';

/** What to put there: text, or a copy of a file. */
export type Content = { text: string } | { copyOf: string };

/** Ours alone: others put their files beside their targets, too. */
const TEMPORARY = '.tmp.culvert.';

/**
 * @param target replaced, also when it is a symbolic link
 * @param mode exactly, whatever the umask
 * @param lastCheck asked when all is written and only the rename is left; throws to give up
 * @throws SYSTEM with a remedy where there is one, and what lastCheck throws
 */
export async function place(target: string, content: Content, mode: number, lastCheck?: () => Promise<void>): Promise<void> {
  const temporary = `${target}${TEMPORARY}${randomBytes(4).toString('hex')}`;
  try {
    await makeDirectory(dirname(target));
    await removeLeftovers(target);
    if ('text' in content) await writeFile(temporary, content.text, { flag: 'wx', mode: 0o600 });
    else await copyFile(content.copyOf, temporary);
    await settle(temporary, mode);
    await lastCheck?.();
    await rename(temporary, target);
    await syncDirectory(dirname(target));
  } catch (error) {
    await rm(temporary, { force: true }).catch(() => undefined);
    throw error instanceof CulvertError ? error : refused(`write ${target}`, error);
  }
}

/** @returns false when there was nothing to remove. @throws SYSTEM */
export async function removeFile(path: string): Promise<boolean> {
  try {
    await removeLeftovers(path);
    await rm(path);
    await syncDirectory(dirname(path));
    return true;
  } catch (error) {
    if (isSystem(error, 'ENOENT')) return false;
    throw refused(`remove ${path}`, error);
  }
}

/** Not mkdir's own recursion: it never ends where a link on the way leads to nothing. */
async function makeDirectory(path: string): Promise<void> {
  try {
    await stat(path);
  } catch (error) {
    if (!isSystem(error, 'ENOENT')) throw error;
    if (dirname(path) !== path) await makeDirectory(dirname(path));
    await mkdir(path);
  }
}

async function removeLeftovers(target: string): Promise<void> {
  const prefix = `${basename(target)}${TEMPORARY}`;
  const names = await readdir(dirname(target));
  await Promise.all(names.filter((name) => name.startsWith(prefix)).map((name) => rm(join(dirname(target), name), { force: true })));
}

async function settle(path: string, mode: number): Promise<void> {
  const file = await open(path, 'r+');
  try {
    await file.chmod(mode);
    await file.sync();
  } finally {
    await file.close();
  }
}

async function syncDirectory(path: string): Promise<void> {
  const directory = await open(path, 'r');
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}

function refused(what: string, error: unknown): CulvertError {
  const remedy = isSystem(error, 'EROFS')
    ? ': the file system is read-only; name the directory that the runtime really uses (--cni-bin-dir, --cni-conf-dir), or mount it writable'
    : isSystem(error, 'EACCES') || isSystem(error, 'EPERM')
      ? ': permission denied; run as root, in a pod with CAP_DAC_OVERRIDE'
      : '';
  return new CulvertError('SYSTEM', `${what}${remedy}`, error);
}
