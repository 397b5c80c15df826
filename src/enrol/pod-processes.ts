/** One walk over /proc: the processes of pods, with the network namespaces they are in. */
import { setImmediate as nextTurn } from 'node:timers/promises';
import { isSystem } from '../base/errors.ts';
import { missingCapabilities } from '../sys/kernel.ts';
import { cgroupLines, namespaceId, processes, startTime } from '../sys/procfs.ts';
import { ownerOf } from './pod-cgroup.ts';

export interface PodProcess {
  pid: number;
  /** in clock ticks since boot: with it, a pid names one process for ever */
  started: bigint;
  /** id of its netns */
  netns: string;
}

/** Of each pod, or each container whose cgroup names no pod: the oldest process in each netns, oldest first. Keys as `ownerKeys` makes them. */
export type PodProcesses = Map<string, PodProcess[]>;

/** A walk over thousands of processes takes a hundred milliseconds: nothing else is kept waiting for longer than this at a time. */
const SLICE_MS = 4;

/**
 * Processes of the node's own netns are nobody's here. One that goes while it is looked at is passed over.
 * @param nodeNetns id of the node's netns
 * @throws CulvertError SYSTEM: EACCES without ptrace access
 */
export async function podProcesses(proc: string, nodeNetns: string | undefined): Promise<PodProcesses> {
  const found: PodProcesses = new Map();
  const traces = missingCapabilities(['SYS_PTRACE']).length === 0;
  let slice = performance.now();
  for (const pid of processes(proc)) {
    if (performance.now() - slice > SLICE_MS) {
      await nextTurn();
      slice = performance.now();
    }
    try {
      look(pid, proc, nodeNetns, found);
    } catch (error) {
      // A cgroup with a longer path than the kernel tells is one that a container made in its own: one process must not hide all others.
      // With ptrace access, what stays closed is in a user namespace above ours, where none of our pods can be.
      if (!isSystem(error, 'ENAMETOOLONG') && !(isSystem(error, 'EACCES') && traces)) throw error;
    }
  }
  for (const list of found.values()) list.sort((a, b) => (a.started < b.started ? -1 : a.started > b.started ? 1 : a.pid - b.pid));
  return found;
}

function look(pid: number, proc: string, nodeNetns: string | undefined, found: PodProcesses): void {
  const netns = namespaceId(netnsOf(pid, proc)); // first: most processes of a node are in its own
  if (netns === undefined || netns === nodeNetns) return;
  const owner = ownerOf(cgroupLines(pid, proc) ?? '');
  const started = owner === undefined ? undefined : startTime(pid, proc);
  if (owner === undefined || started === undefined) return;
  const [key = ''] = ownerKeys(owner.podUid, [owner.containerId ?? '']);
  const list = found.get(key) ?? [];
  found.set(key, list);
  const known = list.find((other) => other.netns === netns);
  if (known === undefined) list.push({ pid, started, netns });
  else if (started < known.started) Object.assign(known, { pid, started });
}

/** @param podUid in the spelling of `ownerOf` */
export function ownerKeys(podUid: string | undefined, containerIds: readonly string[]): string[] {
  return [...(podUid === undefined ? [] : [`pod ${podUid}`]), ...containerIds.map((id) => `container ${id}`)];
}

export function netnsOf(pid: number, proc: string): string {
  return `${proc}/${pid}/ns/net`;
}
