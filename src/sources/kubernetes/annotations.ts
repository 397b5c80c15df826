/**
 * Writes annotations of pods through pods/status, which needs no right to change the pods themselves. One write at a time per pod, so
 * that none overtakes another, and only that very pod is hit: another one of the same name has another uid, and the server refuses.
 */
import { Slots } from '../../base/slots.ts';
import type { KubeApi } from '../../kubernetes/api.ts';
import { isKubernetes, retryAfterMs } from '../../kubernetes/errors.ts';
import { RateLimit } from '../../kubernetes/rate-limit.ts';
import type { ObservedPod } from './pods.ts';
import { isKept } from './records.ts';

/** Of one write; whoever asked tries again. */
const DEADLINE_MS = 10_000;
const WRITES_AT_ONCE = 16;
/** as the clients of Istio's node agent */
const WRITES_PER_SECOND = 80;
const BURST = 160;

export interface PodName {
  uid: string;
  namespace: string;
  name: string;
}

export interface PodAnnotationsOptions {
  api: Pick<KubeApi, 'patch'>;
  /** as the watch has it now */
  observed: (pod: PodName) => ObservedPod | undefined;
  deadlineMs?: number;
}

/** What is under way with one pod. */
interface Lane {
  last: Promise<void>;
  writes: number;
  /** version that our last write made, which the watch has not brought yet; 'unknown': it may have been done or not */
  unseen: string | undefined;
}

export class PodAnnotations {
  readonly #o: PodAnnotationsOptions;
  readonly #lanes = new Map<string, Lane>();
  readonly #slots = new Slots(WRITES_AT_ONCE);
  readonly #rate = new RateLimit(WRITES_PER_SECOND, BURST);
  readonly #closed = new AbortController();

  constructor(options: PodAnnotationsOptions) {
    this.#o = options;
  }

  /**
   * Resolves when the API server has it; nobody is asked when it has it already. A pod that is gone has no annotation to remove.
   * @throws KubernetesError
   */
  async write(pod: PodName, key: string, value: string | undefined): Promise<void> {
    const lane = this.#lanes.get(pod.uid) ?? { last: Promise.resolve(), writes: 0, unseen: undefined };
    this.#lanes.set(pod.uid, lane);
    lane.writes++;
    const write = lane.last.then(() => this.#write(lane, pod, key, value));
    lane.last = write.catch(() => undefined); // its caller is told
    try {
      await write;
    } finally {
      lane.writes--;
      this.#settle(pod.uid, lane, this.#o.observed(pod)?.version);
    }
  }

  /** The watch brought this version of a pod; undefined: it is gone. */
  observed(uid: string, version: string | undefined): void {
    const lane = this.#lanes.get(uid);
    if (lane === undefined) return;
    if (version === undefined) lane.unseen = undefined;
    this.#settle(uid, lane, version);
  }

  /** Who waits for a turn goes on at once. */
  close(): void {
    this.#closed.abort();
  }

  async #write(lane: Lane, pod: PodName, key: string, value: string | undefined): Promise<void> {
    if (this.#has(lane, pod, key, value)) return;
    await this.#slots.run(async () => {
      await this.#rate.take(this.#closed.signal);
      const { uid, namespace, name } = pod;
      const path = `/api/v1/namespaces/${namespace}/pods/${name}/status`;
      const body = { metadata: { uid, annotations: { [key]: value ?? null } } };
      try {
        const written = await this.#o.api.patch(path, body, 'merge', this.#o.deadlineMs ?? DEADLINE_MS);
        lane.unseen = written.metadata.resourceVersion;
      } catch (error) {
        this.#rate.pause(retryAfterMs(error));
        const gone = isGone(error);
        lane.unseen = gone ? undefined : 'unknown';
        if (!gone || value !== undefined) throw error;
      }
    });
  }

  /** Only when the watch is not behind our own writes: what it says may be older than they are. */
  #has(lane: Lane, pod: PodName, key: string, value: string | undefined): boolean {
    if (lane.unseen !== undefined || !isKept(key)) return false;
    const observed = this.#o.observed(pod);
    return observed !== undefined && observed.record.annotations[key] === value;
  }

  #settle(uid: string, lane: Lane, version: string | undefined): void {
    if (lane.unseen !== undefined && version !== undefined && reaches(version, lane.unseen)) lane.unseen = undefined;
    if (lane.writes === 0 && lane.unseen === undefined) this.#lanes.delete(uid);
  }
}

/** There is no such pod, or another one under its name. */
function isGone(error: unknown): boolean {
  return isKubernetes(error, 404) || (isKubernetes(error, 422) && error.fields.includes('metadata.uid'));
}

/** Versions of one object grow, and are numbers with every API server there is; one that is none counts when it is the same. */
function reaches(version: string, wanted: string): boolean {
  if (version === wanted) return true;
  const numbers = /^\d+$/;
  return numbers.test(version) && numbers.test(wanted) && BigInt(version) >= BigInt(wanted);
}
