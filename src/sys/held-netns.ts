/** Which network namespaces somebody can still use. One that only descriptors keep alive is nobody's any more. */
import { readFileSync } from 'node:fs';
import { isSystem } from '../base/errors.ts';
import { namespaceId, netnsMounts, occupiedNetns, processes } from './procfs.ts';
import { attempt } from './system.ts';

/**
 * Inodes of the namespaces that a process is in, or that are mounted somewhere in any mount namespace ("ip netns add", runtimes; also
 * those of a program that made itself mounts of its own).
 * @param proc procfs of the node
 * @throws CulvertError SYSTEM: EACCES without ptrace access
 */
export function heldNetns(proc = '/proc'): Set<string> {
  const held = new Set([...occupiedNetns(proc)].map((id) => id.slice(id.indexOf(':') + 1)));
  const seen = new Set<string>();
  for (const pid of processes(proc)) {
    try {
      const mounts = namespaceId(`${proc}/${pid}/ns/mnt`);
      if (mounts === undefined || seen.has(mounts)) continue;
      const text = attempt(`read mounts of process ${pid}`, () => readFileSync(`${proc}/${pid}/mountinfo`, 'utf8'));
      seen.add(mounts); // not before: of a process that ended meanwhile nothing was read
      for (const inode of netnsMounts(text).keys()) held.add(inode);
    } catch (error) {
      // ended meanwhile, or in a user namespace above ours, where occupiedNetns looked no further either
      if (!['ENOENT', 'ESRCH', 'EINVAL', 'EACCES'].some((code) => isSystem(error, code))) throw error;
    }
  }
  return held;
}
