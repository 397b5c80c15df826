/**
 * Events on pods, for `kubectl describe pod`. The same at the same pod is one Event that counts; never more than a trickle goes to the
 * API, however many pods are in trouble. Best effort: an Event that cannot be written is not worth a retry.
 */
import { hash } from 'node:crypto';
import { describe } from '../../base/errors.ts';
import type { Logger } from '../../base/log.ts';
import type { KubeApi, KubeObject } from '../../kubernetes/api.ts';
import { isKubernetes, retryAfterMs } from '../../kubernetes/errors.ts';
import { RateLimit } from '../../kubernetes/rate-limit.ts';
import type { PodEvent } from '../source.ts';
import type { PodName } from './annotations.ts';

const COMPONENT = 'culvert-agent';
/** What is counted together is written at most this often. */
const REPEAT_MS = 60_000;
/** of one node, over all its pods */
const WRITES_PER_SECOND = 0.5;
const BURST = 25;
/** Different ones that are remembered; what comes on top of them before they are written is dropped. */
const MAX_REMEMBERED = 200;
/** The API takes no more. */
const MAX_MESSAGE = 1024;

export interface PodEventsOptions {
  api: Pick<KubeApi, 'create' | 'patch'>;
  node: string;
  log: Logger;
  repeatMs?: number;
}

/** The same thing, however often it happened. */
interface Series {
  pod: PodName;
  event: PodEvent;
  /** name of the Event: the same for the same thing, also after a restart of the agent */
  name: string;
  first: Date;
  last: Date;
  /** that the API does not know of */
  fresh: number;
  /** that it knows of; undefined: not known */
  written: number | undefined;
  /** by performance.now() */
  notBefore: number;
}

export class PodEvents {
  readonly #o: Required<PodEventsOptions>;
  /** by name, the one that was quiet longest first */
  readonly #series = new Map<string, Series>();
  readonly #due: Series[] = [];
  readonly #rate = new RateLimit(WRITES_PER_SECOND, BURST);
  readonly #closed = new AbortController();
  #writing = false;
  #dropped = 0;

  constructor(options: PodEventsOptions) {
    this.#o = { repeatMs: REPEAT_MS, ...options };
  }

  add(pod: PodName, event: PodEvent): void {
    if (this.#closed.signal.aborted) return;
    const name = nameOf(pod, event);
    const now = new Date();
    let series = this.#series.get(name);
    if (series === undefined) {
      if (!this.#makeRoom()) {
        this.#dropped++;
        return;
      }
      series = { pod, event, name, first: now, last: now, fresh: 0, written: 0, notBefore: 0 };
    }
    this.#series.delete(name);
    this.#series.set(name, series);
    series.fresh++;
    series.last = now;
    if (performance.now() < series.notBefore || this.#due.includes(series)) return;
    this.#due.push(series);
    if (!this.#writing) void this.#write();
  }

  close(): void {
    this.#closed.abort();
    this.#due.length = 0;
  }

  /** Never rejects. */
  async #write(): Promise<void> {
    this.#writing = true;
    for (let series = this.#due.shift(); series !== undefined; series = this.#due.shift()) {
      await this.#rate.take(this.#closed.signal);
      if (this.#closed.signal.aborted) break;
      series.notBefore = performance.now() + this.#o.repeatMs;
      const { fresh } = series;
      try {
        series.written = await this.#put(series);
        series.fresh -= fresh;
      } catch (error) {
        this.#rate.pause(retryAfterMs(error));
        this.#o.log.debug({ pod: `${series.pod.namespace}/${series.pod.name}`, error: describe(error) }, 'event not written');
      }
      this.#tellDropped();
    }
    this.#writing = false;
  }

  /** @returns how often it happened, as the API has it now */
  async #put(series: Series): Promise<number> {
    const { pod, name, fresh, last } = series;
    const collection = `/api/v1/namespaces/${pod.namespace}/events`;
    const change = (body: object): Promise<KubeObject> => this.#o.api.patch(`${collection}/${name}`, body, 'merge');
    const lastTimestamp = timeOf(last);
    if (series.written === 0) {
      try {
        await this.#o.api.create(collection, eventOf(series, this.#o.node));
        return fresh;
      } catch (error) {
        if (!(isKubernetes(error, 409) && error.reason === 'AlreadyExists')) throw error;
        series.written = undefined; // by this agent's predecessor
      }
    }
    try {
      series.written ??= countOf(await change({ lastTimestamp }));
      await change({ lastTimestamp, count: series.written + fresh });
      return series.written + fresh;
    } catch (error) {
      if (isKubernetes(error, 404)) series.written = 0; // the API forgets Events after an hour: the next one starts anew
      throw error;
    }
  }

  #makeRoom(): boolean {
    if (this.#series.size < MAX_REMEMBERED) return true;
    for (const [name, series] of this.#series) {
      if (this.#due.includes(series)) continue;
      this.#series.delete(name);
      return true;
    }
    return false;
  }

  #tellDropped(): void {
    if (this.#dropped === 0) return;
    this.#o.log.warn({ dropped: this.#dropped }, 'too many events: some are only in this log');
    this.#dropped = 0;
  }
}

function eventOf({ pod, event, name, first, last, fresh }: Series, node: string): KubeObject {
  return {
    apiVersion: 'v1',
    kind: 'Event',
    metadata: { name, namespace: pod.namespace },
    involvedObject: { apiVersion: 'v1', kind: 'Pod', namespace: pod.namespace, name: pod.name, uid: pod.uid },
    ...event,
    message: event.message.slice(0, MAX_MESSAGE),
    source: { component: COMPONENT, host: node },
    reportingComponent: COMPONENT,
    reportingInstance: node,
    firstTimestamp: timeOf(first),
    lastTimestamp: timeOf(last),
    count: fresh,
  };
}

/** Made of what it says, so that saying it again is told from saying another thing. */
function nameOf({ uid, name }: PodName, { type, reason, message }: PodEvent): string {
  const digest = hash('sha256', JSON.stringify([uid, type, reason, message]), 'hex').slice(0, 16);
  return `${name.slice(0, 200).replace(/[^a-z0-9]+$/, '')}.${digest}`;
}

/** The API's own precision. */
function timeOf(date: Date): string {
  return date.toISOString().replace(/\.\d+Z$/, 'Z');
}

function countOf(event: KubeObject): number {
  return typeof event['count'] === 'number' ? event['count'] : 1;
}
