/** cgroup v2: where it is mounted, where a process is in it, and the ids that BPF programs see. */
import { mkdirSync, readdirSync, readFileSync, readlinkSync, rmdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { CulvertError, isSystem } from '../base/errors.ts';
import { mountsOf } from './mountinfo.ts';
import { native } from './native.ts';
import { attempt } from './system.ts';

/**
 * The root directory of any kernfs hierarchy, and of no part of it. Mount tables do not tell: to a process in a cgroup namespace of its
 * own the root of its part is "/", too.
 */
const ROOT_INODE = 1;

/**
 * Mount point of the whole hierarchy. Found by type, since beside v1 hierarchies it is not /sys/fs/cgroup; and by its inode, since a
 * container's own mount shows only its part, where programs for every pod cannot be attached.
 * @param inodeOf of a directory; undefined when it can't be looked at
 * @throws CulvertError CGROUP_ROOT with the remedy
 */
export function cgroup2Mount(mountinfo = readFileSync('/proc/self/mountinfo', 'utf8'), inodeOf = directoryInode): string {
  const mounts = mountsOf(mountinfo).filter(({ type }) => type === 'cgroup2');
  const whole = mounts.find(({ point }) => inodeOf(point) === ROOT_INODE);
  if (whole !== undefined) return whole.point;
  const [part] = mounts;
  const cause =
    part === undefined
      ? 'no file system of type cgroup2 is mounted; mount one with "mount -t cgroup2 none /sys/fs/cgroup", or in a container mount the host\'s'
      : `${part.point} shows only a part of it; mount the host's (hostPath /sys/fs/cgroup)`;
  throw new CulvertError('CGROUP_ROOT', `find cgroup v2: ${cause}`);
}

function directoryInode(path: string): number | undefined {
  return statSync(path, { throwIfNoEntry: false })?.ino;
}

/** Directories of cgroups by the paths that /proc/PID/cgroup shows: they begin at the root of the reader's cgroup namespace. */
export class CgroupTree {
  /** of the whole hierarchy */
  readonly mount: string;
  /** where our namespace begins in it, "/" without one of our own */
  readonly #base: string;

  constructor(mount: string, base = '/') {
    this.mount = mount;
    this.#base = base;
  }

  /** @param path "/kubepods/pod1", "/../../kubepods/pod1" */
  directory(path: string): string {
    return join(this.mount, join(this.#base, path)).replace(/(?<=.)\/$/, '');
  }
}

/** @param proc procfs of the node, in whose numbers our own pid is looked for. @throws CulvertError CGROUP_ROOT */
export function openCgroups(proc = '/proc'): CgroupTree {
  const mountinfo = readFileSync('/proc/self/mountinfo', 'utf8');
  const mount = cgroup2Mount(mountinfo);
  const root = mountsOf(mountinfo).find(({ point, type }) => type === 'cgroup2' && point === mount)?.root ?? '/';
  if (root === '/') return new CgroupTree(mount);
  // "/../..": how far our namespace begins below the root, but not where. Our own process is there, or below.
  const own = cgroupOf('self');
  const found = findProcess(mount, Number(readlinkSync(`${proc}/self`)), root.split('/').length - 1 + own.split('/').length - 1);
  if (found === undefined || !found.endsWith(own === '/' ? '' : own))
    throw new CulvertError(
      'CGROUP_ROOT',
      `find our own cgroup below ${mount}: process ${process.pid} is in none; the host's pid namespace is needed (hostPID)`,
    );
  return new CgroupTree(mount, found.slice(mount.length, own === '/' ? undefined : -own.length) || '/');
}

/** The directory whose cgroup.procs has this process. A few thousand small reads at most, once. */
function findProcess(directory: string, pid: number, depth: number): string | undefined {
  const line = String(pid);
  try {
    if (readFileSync(join(directory, 'cgroup.procs'), 'utf8').split('\n').includes(line)) return directory;
    if (depth <= 0) return undefined;
    for (const entry of readdirSync(directory, { withFileTypes: true })) {
      const found = entry.isDirectory() ? findProcess(join(directory, entry.name), pid, depth - 1) : undefined;
      if (found !== undefined) return found;
    }
  } catch (error) {
    // removed meanwhile; or a threaded cgroup, whose processes are listed above it
    if (!isSystem(error, 'ENOENT') && !isSystem(error, 'ENODEV') && !isSystem(error, 'EOPNOTSUPP')) throw error;
  }
  return undefined;
}

/** Path of a process below the root of our cgroup namespace, "/" for that root itself (see CgroupTree). @throws CulvertError CGROUP_ROOT, SYSTEM (ENOENT: no such process) */
export function cgroupOf(pid: number | 'self', proc = '/proc'): string {
  const text = attempt(`read cgroup of process ${pid}`, () => readFileSync(`${proc}/${pid}/cgroup`, 'utf8'));
  const line = text.split('\n').find((each) => each.startsWith('0::'));
  if (line === undefined) throw new CulvertError('CGROUP_ROOT', `read cgroup of process ${pid}: it is in no cgroup v2`);
  return line.slice('0::'.length);
}

/** The id that bpf_get_current_cgroup_id gives for tasks in this directory. @throws CulvertError SYSTEM */
export function cgroupId(path: string): bigint {
  return attempt(`read cgroup id of ${path}`, () => native.cgroupId(path));
}

/** @throws CulvertError SYSTEM */
export function createCgroup(path: string): void {
  attempt(`create cgroup ${path}`, () => mkdirSync(path, { recursive: true }));
}

/** Removes an empty cgroup and its empty children, named from the outside in. One that is gone is fine. @throws CulvertError SYSTEM (EBUSY: a process is in it) */
export function removeCgroup(path: string, children: string[] = []): void {
  for (const each of [...children.map((child) => join(path, child)).toReversed(), path]) {
    try {
      rmdirSync(each);
    } catch (error) {
      if (!isSystem(error, 'ENOENT'))
        attempt(`remove cgroup ${each}`, () => {
          throw error;
        });
    }
  }
}
