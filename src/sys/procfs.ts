/** What /proc says of other processes. */
import { readdirSync, readFileSync, readlinkSync, statSync } from 'node:fs';
import { isSystem } from '../base/errors.ts';
import { missingCapabilities } from './kernel.ts';
import { unescaped } from './mountinfo.ts';
import { attempt, systemError } from './system.ts';

/**
 * Start time in clock ticks since boot: with it, a pid names one process for ever. Undefined when there is none, or only one that
 * waits to be reaped.
 */
export function startTime(pid: number, proc = '/proc'): bigint | undefined {
  let stat: string;
  try {
    stat = readFileSync(`${proc}/${pid}/stat`, 'utf8');
  } catch (error) {
    if (isGone(error)) return undefined;
    throw error;
  }
  // The name in field 2 may hold anything, ") " too: fields are counted from its last parenthesis.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  const [state] = fields;
  const started = fields[22 - 3];
  return started === undefined || state === 'Z' || state === 'X' ? undefined : BigInt(started);
}

/** @param started start time seen earlier: another process with the same pid is not it */
export function isAlive(pid: number, started?: bigint): boolean {
  const now = startTime(pid);
  return now !== undefined && (started === undefined || now === started);
}

/** The text of a process's cgroup file, one line per hierarchy. Undefined when there is no such process. @throws CulvertError SYSTEM */
export function cgroupLines(pid: number, proc = '/proc'): string | undefined {
  try {
    return readFileSync(`${proc}/${pid}/cgroup`, 'utf8');
  } catch (error) {
    if (isGone(error)) return undefined;
    throw systemError(`read cgroup of process ${pid}`, error);
  }
}

/** Every process there is now. */
export function processes(proc = '/proc'): number[] {
  return attempt('list processes', () => readdirSync(proc))
    .map(Number)
    .filter((pid) => pid > 0);
}

/** Names a namespace as long as it lives. Undefined when nothing is at this path. */
export function namespaceId(path: string): string | undefined {
  try {
    const { dev, ino } = statSync(path, { bigint: true });
    return `${dev}:${ino}`;
  } catch (error) {
    if (isGone(error)) return undefined;
    throw error;
  }
}

/**
 * The network namespaces that a process is in. With ptrace access, what still cannot be looked at belongs to a user namespace above
 * ours, where none of our pods can be.
 * @throws CulvertError SYSTEM: EACCES without ptrace access
 */
export function occupiedNetns(proc = '/proc'): Set<string> {
  const traces = missingCapabilities(['SYS_PTRACE']).length === 0;
  const ids = new Set<string>();
  for (const pid of processes(proc)) {
    try {
      const id = attempt(`read network namespace of process ${pid}`, () => namespaceId(`${proc}/${pid}/ns/net`));
      if (id !== undefined) ids.add(id);
    } catch (error) {
      if (!traces || !isSystem(error, 'EACCES')) throw error;
    }
  }
  return ids;
}

/** Where network namespaces are mounted, as this process sees it, by inode: runtimes keep a sandbox's netns that way. @throws CulvertError SYSTEM */
export function netnsMounts(mountinfo = attempt('read mounts', () => readFileSync('/proc/self/mountinfo', 'utf8'))): Map<string, string> {
  const mounts = new Map<string, string>();
  for (const line of mountinfo.split('\n')) {
    if (!line.includes(' - nsfs ')) continue;
    const [, , , root, point] = line.split(' ');
    const inode = /^net:\[(\d+)\]$/.exec(root ?? '')?.[1];
    if (inode !== undefined && point !== undefined && !mounts.has(inode)) mounts.set(inode, unescaped(point));
  }
  return mounts;
}

export interface SocketFd {
  fd: number;
  /** as inet_diag and /proc/net know the socket */
  inode: number;
}

/** The sockets among a process's descriptors. @throws CulvertError SYSTEM: ENOENT or ESRCH when it is gone, EACCES without ptrace access */
export function socketFds(pid: number, proc = '/proc'): SocketFd[] {
  const directory = `${proc}/${pid}/fd`;
  return attempt(`list sockets of process ${pid}`, () =>
    readdirSync(directory).flatMap((name) => {
      const inode = socketInode(`${directory}/${name}`);
      return inode === undefined ? [] : [{ fd: Number(name), inode }];
    }),
  );
}

function socketInode(link: string): number | undefined {
  try {
    const match = /^socket:\[(\d+)\]$/.exec(readlinkSync(link));
    return match === null ? undefined : Number(match[1]);
  } catch (error) {
    // Closed since the directory was read.
    if (isGone(error)) return undefined;
    throw error;
  }
}

function isGone(error: unknown): boolean {
  return isSystem(error, 'ENOENT') || isSystem(error, 'ESRCH');
}
