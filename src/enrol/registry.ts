/** The pods of this node as the agent knows them: what the source says of each, and how far each is on its way. */
import type { Decision } from './policy.ts';
import type { MeshPod } from './pod.ts';
import type { PodRecord } from '../sources/source.ts';

export interface Entry {
  readonly pod: MeshPod;
  /** undefined: gone from the source */
  record: PodRecord | undefined;
  decision: Decision;
  /** what the plugin said, until the source says something newer of the netns */
  sandbox: { netns: string; ips: string[] } | undefined;
  /** cookie of a netns whose sandbox was removed: it is not used again, though its path may stay for a while */
  retired: bigint | undefined;
  /** another path that leads to the same netns as the open one */
  alias: string | undefined;
  /**
   * Nobody named its netns: it was found, or taken over from an earlier agent. When its path goes it is looked for again, since the
   * netns may live on under another one; only when nothing of the pod is in it any more it is lost.
   */
  netns: 'named' | 'found' | 'lost';
  /** why it can't join yet though it should */
  waitingFor: string | undefined;
  /** what does not hinder it but should be seen: by annotation or other cause, one sentence each */
  readonly warnings: Map<string, string>;
  /** the error that the log has already */
  logged: Error | undefined;
}

export type PodSummary = 'enrolled' | 'pending' | 'not-enrolled';

export class Registry {
  readonly #entries = new Map<string, Entry>();

  get(uid: string): Entry | undefined {
    return this.#entries.get(uid);
  }

  set(entry: Entry): void {
    this.#entries.set(entry.pod.subject.uid, entry);
  }

  delete(entry: Entry): void {
    this.#entries.delete(entry.pod.subject.uid);
  }

  all(): Entry[] {
    return [...this.#entries.values()];
  }

  /** A pod that was made anew under its old name can be there twice for a while: the one the source has is meant. */
  named(namespace: string, name: string): Entry | undefined {
    return this.all().find(({ record }) => record?.namespace === namespace && record.name === name);
  }

  byCookie(cookie: bigint): Entry | undefined {
    return this.all().find(({ pod }) => pod.subject.cookie === cookie);
  }
}

/** Enrolled: active in the kernel and acknowledged. Pending: it should be, and is not yet or not again. */
export function summary(entry: Entry): PodSummary {
  if (!entry.decision.enrolled || entry.record === undefined) return 'not-enrolled';
  const adopted = entry.pod.state === 'adopting' && entry.pod.subject.datapath === 'active';
  return entry.pod.captured || adopted ? 'enrolled' : 'pending';
}

/** The sentence why, and what stands in the way. */
export function reason(entry: Entry): string {
  const why = entry.record === undefined ? 'the pod was deleted' : entry.decision.reason;
  const { state, error } = entry.pod;
  switch (summary(entry)) {
    case 'enrolled':
      return error === undefined ? why : `${why}; ${error.message}`;
    case 'pending':
      return `${why}; ${entry.waitingFor ?? error?.message ?? `it is ${state}`}`;
    case 'not-enrolled':
      return state === 'out' ? why : `${why}; it is ${state}${error === undefined ? '' : `: ${error.message}`}`;
  }
}
