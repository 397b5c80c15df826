/** An open network namespace of a pod, and whether the path it was found under still leads to it. */
import { closeSync, fstatSync, openSync, statSync, constants, type BigIntStats } from 'node:fs';
import { CulvertError } from '../base/errors.ts';

export interface Netns {
  readonly path: string;
  /** held open until close(): a tunnel that connects later gets it, and the kernel can't give its cookie to another */
  readonly fd: number;
  readonly cookie: bigint;
  /** The path is gone, or leads to another namespace: the sandbox was removed or made anew. */
  gone(): boolean;
  close(): void;
}

/** The path of a process's netns goes with the process, and then says nothing of the netns. */
export function isProcessPath(path: string): boolean {
  return /\/\d+\/ns\/net$/.test(path);
}

export type OpenNetns = (path: string) => Netns;

/**
 * @param cookieOf SO_NETNS_COOKIE of an open netns; throws for anything else
 * @throws NETNS_GONE when nothing is there, NETNS_UNKNOWN when it is no network namespace (a bind mount not made yet, or unmounted)
 */
export function openNetns(path: string, cookieOf: (fd: number) => bigint): Netns {
  let fd: number;
  try {
    fd = openSync(path, constants.O_RDONLY);
  } catch (error) {
    throw new CulvertError('NETNS_GONE', `open network namespace ${path}`, error);
  }
  try {
    const opened = fstatSync(fd, { bigint: true });
    const cookie = cookieOf(fd);
    return {
      path,
      fd,
      cookie,
      gone: () => !same(opened, path),
      close: once(() => {
        closeSync(fd);
      }),
    };
  } catch (error) {
    closeSync(fd);
    throw new CulvertError('NETNS_UNKNOWN', `open network namespace ${path}: it is none`, error);
  }
}

/** The same netns, still by the descriptor that is held, since others know it by its number; known under a newly found path from now on. */
export function underPath(held: Netns, found: Netns): Netns {
  found.close();
  return {
    path: found.path,
    fd: held.fd,
    cookie: held.cookie,
    gone: () => found.gone(),
    close: () => {
      held.close();
    },
  };
}

/** Where nobody can look, the netns is taken to be there still, except behind a process: one that is about to go answers with EACCES. */
function same(opened: BigIntStats, path: string): boolean {
  try {
    const now = statSync(path, { bigint: true, throwIfNoEntry: false });
    return now !== undefined && now.ino === opened.ino && now.dev === opened.dev;
  } catch {
    return !isProcessPath(path);
  }
}

function once(action: () => void): () => void {
  let done = false;
  return () => {
    if (done) return;
    done = true;
    action();
  };
}
