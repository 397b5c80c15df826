/** cgroup v2: where it is mounted, where a process is in it, and the ids that BPF programs see. */
import { mkdirSync, readFileSync, rmdirSync } from 'node:fs';
import { join } from 'node:path';
import { CulvertError, isSystem } from '../base/errors.ts';
import { unescaped } from './mountinfo.ts';
import { native } from './native.ts';
import { attempt } from './system.ts';

/**
 * Mount point of the whole hierarchy. Found by type, since beside v1 hierarchies it is not /sys/fs/cgroup; and by root, since a
 * container's bind mount of its own part is not where programs for every pod can be attached.
 * @throws CulvertError CGROUP_ROOT
 */
export function cgroup2Mount(mountinfo = readFileSync('/proc/self/mountinfo', 'utf8')): string {
  let part: string | undefined;
  for (const line of mountinfo.split('\n')) {
    const [left, filesystem] = line.split(' - ');
    const [, , , root, point] = (left ?? '').split(' ');
    if (root === undefined || point === undefined || filesystem?.startsWith('cgroup2 ') !== true) continue;
    if (root === '/') return unescaped(point);
    part = point;
  }
  const cause =
    part === undefined
      ? 'no file system of type cgroup2 is mounted; mount one with "mount -t cgroup2 none /sys/fs/cgroup"'
      : `${part} shows only a part of it; mount the host's`;
  throw new CulvertError('CGROUP_ROOT', `find cgroup v2: ${cause}`);
}

/** Path of a process below the hierarchy's root, "/" for the root itself. @throws CulvertError CGROUP_ROOT, SYSTEM (ENOENT: no such process) */
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
