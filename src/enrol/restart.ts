/**
 * What an agent finds when it starts: pods that the kernel still serves for it. Those that the source knows go on where they
 * were, uninterrupted; what belongs to pods or sandboxes that are gone is handed back for removal.
 */
import { isCulvert } from '../base/errors.ts';
import type { EnrolledNetns } from '../redirect/driver.ts';
import type { PodRecord } from '../sources/source.ts';
import type { ZdsWorkload } from '../zds/server.ts';
import { isProcessPath, type Netns, type OpenNetns } from './netns.ts';
import { isAnnotated } from './policy.ts';
import type { Entry } from './registry.ts';
import { afterRestart } from './states.ts';
import { workloadOf } from './steps.ts';

/** Put behind the redirect by hand (`culvert redirect on`): no pod's, and nobody's but that hand's to remove. */
export const BY_HAND = 'redirect:';

export interface Leftover {
  cookie: bigint;
  /** "namespace/name" as the kernel's side remembers it */
  name: string;
  netns: Netns | undefined;
}

export interface Adoption {
  /** makes the entry of a pod that goes on; without `kernel` there is nothing left of it but its annotation */
  adopt: (record: PodRecord, kernel?: EnrolledNetns, netns?: Netns) => { entry: Entry; wanted: boolean };
  /** puts it into what the tunnels are told to serve or keep */
  provide: (workload: ZdsWorkload) => void;
}

/** @param records the pods of this node by uid @returns what is nobody's any more */
export function adoptFromKernel(kernel: EnrolledNetns[], records: Map<string, PodRecord>, open: OpenNetns, adoption: Adoption): Leftover[] {
  const leftovers: Leftover[] = [];
  const adopted = new Set<string>();
  for (const found of kernel) {
    if (found.uid.startsWith(BY_HAND)) continue;
    const record = records.get(found.uid);
    const netns = find(found, record, open);
    if (record === undefined || netns === 'gone' || adopted.has(found.uid)) {
      leftovers.push({ cookie: found.cookie, name: `${found.namespace}/${found.name}`, netns: netns === 'gone' ? undefined : netns });
      continue;
    }
    adopted.add(found.uid);
    const { entry, wanted } = adoption.adopt(record, found, netns);
    // also one that is about to leave: a snapshot without it would cut what it still carries
    if (found.state !== 'prepared') adoption.provide(workloadOf(entry.pod.subject));
    entry.pod.enter(afterRestart(found.state, wanted, isAnnotated(record)));
  }
  for (const record of records.values()) {
    if (adopted.has(record.uid) || !isAnnotated(record)) continue;
    const { entry, wanted } = adoption.adopt(record);
    if (!wanted) {
      entry.pod.enter(afterRestart('none', false, true));
      continue;
    }
    // Announced, but without a trace in the kernel: it is enrolled anew. Until then the tunnel keeps what it has of it; an Add
    // before the datapath is prepared would register no listener.
    entry.pod.inherited = true;
    adoption.provide(workloadOf(entry.pod.subject));
  }
  return leftovers;
}

/** The namespace behind what the kernel holds, by cookie. 'gone' when its path leads to another one or nowhere; a process's says nothing. */
function find(found: EnrolledNetns, record: PodRecord | undefined, open: OpenNetns): Netns | undefined | 'gone' {
  let gone = false;
  for (const path of new Set([found.netnsPath, record?.netns ?? ''])) {
    if (path === '') continue;
    try {
      const netns = open(path);
      if (netns.cookie === found.cookie) return netns;
      netns.close();
      gone ||= !isProcessPath(path);
    } catch (error) {
      gone ||= isCulvert(error, 'NETNS_GONE') && !isProcessPath(path);
    }
  }
  return gone ? 'gone' : undefined;
}
