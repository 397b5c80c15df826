/**
 * Writes annotations of pods through pods/status, which needs no right to change the pods themselves. One write at a time per pod, so
 * that none overtakes another, and only that very pod is hit: another one of the same name has another uid, and the server refuses.
 * What was written stays: somebody else's change of it, or an earlier write of ours that the server did late, is set back.
 */
import { describe } from '../../base/errors.ts';
import type { Logger } from '../../base/log.ts';
import { Slots } from '../../base/slots.ts';
import type { KubeApi } from '../../kubernetes/api.ts';
import { isKubernetes, KubernetesError, retryAfterMs } from '../../kubernetes/errors.ts';
import { RateLimit } from '../../kubernetes/rate-limit.ts';
import type { ObservedPod } from './pods.ts';
import { isKept } from './records.ts';

/** Of one write; whoever asked tries again. */
const DEADLINE_MS = 10_000;
const WRITES_AT_ONCE = 16;
/** as the clients of Istio's node agent */
const WRITES_PER_SECOND = 80;
const BURST = 160;
/** Before the second time that a pod is set back, doubled each time: whoever else writes there does not give up either. */
const SET_BACK_MS = 1000;
const MAX_SET_BACK_MS = 300_000;

export interface PodName {
  uid: string;
  namespace: string;
  name: string;
}

export interface PodAnnotationsOptions {
  api: Pick<KubeApi, 'patch'>;
  /** as the watch has it now */
  observed: (pod: PodName) => ObservedPod | undefined;
  log: Logger;
  deadlineMs?: number;
}

/** What is under way with one pod, and how it should be. */
interface Lane {
  pod: PodName;
  /** by key, the last word on each */
  wanted: Map<string, string | undefined>;
  last: Promise<void>;
  writes: number;
  /** version that our last write made, which the watch has not brought yet; 'unknown': the last one failed, and may have been done */
  unseen: string | undefined;
  setBack: number;
  timer: NodeJS.Timeout | undefined;
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
    const lane = this.#lanes.get(pod.uid) ?? newLane(pod);
    this.#lanes.set(pod.uid, lane);
    lane.wanted.set(key, value);
    lane.writes++;
    const write = lane.last.then(() => this.#write(lane, key, value));
    lane.last = write.catch(() => undefined); // its caller is told
    try {
      await write;
    } finally {
      lane.writes--;
      if (lane.writes === 0 && this.#o.observed(pod) === undefined) this.#drop(lane);
      else this.#look(lane);
    }
  }

  /** The watch brought this version of a pod; undefined: it is gone. */
  observed(uid: string, version: string | undefined): void {
    const lane = this.#lanes.get(uid);
    if (lane === undefined) return;
    if (version !== undefined) this.#look(lane);
    else this.#drop(lane);
  }

  /** Who waits for a turn is refused; what was sent already is answered. */
  close(): void {
    this.#closed.abort();
    for (const lane of this.#lanes.values()) this.#drop(lane);
  }

  async #write(lane: Lane, key: string, value: string | undefined): Promise<void> {
    const annotations = isKept(key) ? this.#known(lane) : undefined;
    if (annotations !== undefined && annotations[key] === value) return;
    await this.#slots.run(async () => {
      await this.#rate.take(this.#closed.signal);
      const { uid, namespace, name } = lane.pod;
      if (this.#closed.signal.aborted) throw new KubernetesError(`annotate pod ${namespace}/${name}: the source was closed`, { status: 0 });
      const path = `/api/v1/namespaces/${namespace}/pods/${name}/status`;
      const body = { metadata: { uid, annotations: { [key]: value ?? null } } };
      try {
        const written = await this.#o.api.patch(path, body, 'merge', this.#o.deadlineMs ?? DEADLINE_MS);
        lane.unseen = written.metadata.resourceVersion;
      } catch (error) {
        this.#rate.pause(retryAfterMs(error));
        lane.unseen = 'unknown'; // of a pod that is gone, too: the watch may still have it
        if (!isGone(error) || value !== undefined) throw error;
      }
    });
  }

  /** @returns the annotations that the pod has; undefined while that is not known: the watch may be behind our own writes */
  #known(lane: Lane): Record<string, string> | undefined {
    const observed = this.#o.observed(lane.pod);
    if (observed === undefined) return undefined;
    if (lane.unseen !== undefined && reaches(observed.version, lane.unseen)) lane.unseen = undefined;
    return lane.unseen === undefined ? observed.record.annotations : undefined;
  }

  /** Whether it is as it should be, once nothing is under way any more. */
  #look(lane: Lane): void {
    const annotations = lane.writes === 0 && lane.timer === undefined ? this.#known(lane) : undefined;
    if (annotations === undefined || this.#closed.signal.aborted) return;
    const [astray] = [...lane.wanted].filter(([key, value]) => isKept(key) && annotations[key] !== value);
    if (astray === undefined) return;
    const delay = lane.setBack === 0 ? 0 : Math.min(SET_BACK_MS * 2 ** (lane.setBack - 1), MAX_SET_BACK_MS);
    lane.setBack++;
    lane.timer = setTimeout(() => {
      lane.timer = undefined;
      void this.#setBack(lane, astray[0]);
    }, delay).unref();
  }

  /** Never rejects. */
  async #setBack(lane: Lane, key: string): Promise<void> {
    const { namespace, name } = lane.pod;
    const fields = { pod: `${namespace}/${name}`, annotation: key, value: lane.wanted.get(key) };
    try {
      await this.write(lane.pod, key, lane.wanted.get(key));
      this.#o.log.info(fields, 'an annotation was not as it was written: set back');
    } catch (error) {
      this.#o.log.debug({ ...fields, error: describe(error) }, 'annotation not set back');
    }
  }

  #drop(lane: Lane): void {
    clearTimeout(lane.timer);
    if (this.#lanes.get(lane.pod.uid) === lane) this.#lanes.delete(lane.pod.uid);
  }
}

function newLane(pod: PodName): Lane {
  const { uid, namespace, name } = pod;
  return {
    pod: { uid, namespace, name },
    ...{ wanted: new Map(), last: Promise.resolve(), writes: 0, unseen: undefined, setBack: 0, timer: undefined },
  };
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
