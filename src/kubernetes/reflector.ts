/**
 * The objects of one collection, as they are now and as they change: a list in pages, then watches that resume where the last one
 * ended. Whatever breaks is tried again for ever. Objects are converted as they arrive and not kept; of each only its key and version
 * stay here, so that after a new list the unchanged ones are not told again and the vanished ones are.
 */
import { randomInt } from 'node:crypto';
import { CulvertError, describe } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import type { KubeApi, KubeObject, WatchEvent } from './api.ts';
import { Backoff } from './backoff.ts';
import { isKubernetes, retryAfterMs } from './errors.ts';
import { isKubeObject } from './json.ts';

const PAGE = 250;
/** The server ends a watch after this many seconds, so that replicas of the API server share the load again. */
const WATCH_SECONDS = [300, 600] as const;
/** A watch that stood this long was none that fails at once. */
const STOOD_MS = 1_000;
/** Refusals of a watch after which the same version may be tried again; any other, and a fresh list is what helps. */
const RESUMABLE: ReadonlySet<number> = new Set([0, 401, 403, 429, 500, 502, 503]);

export interface Change<T> {
  /** "namespace/name", or "name" */
  key: string;
  /** undefined: gone */
  value: T | undefined;
}

export interface ReflectorEvents<T> {
  /** What arrived at once, in the server's order. */
  onChanges(changes: readonly Change<T>[]): void;
  /** Once, after the first full list was delivered. */
  onSynced(): void;
  /** An object that cannot be read (its last good state stays), or an outage: once, not per attempt. */
  onError(error: Error): void;
  /** The outage that was told is over. */
  onRecovered?(): void;
}

export interface ReflectorOptions<T> {
  api: KubeApi;
  /** of the collection: "/api/v1/pods" */
  path: string;
  /** selectors */
  query?: Record<string, string>;
  /** @returns undefined for an object of no interest. @throws CulvertError that names the object and its faults */
  convert(object: KubeObject): T | undefined;
  /** longest between two attempts; default 30 s */
  maxPauseMs?: number;
  log: Logger;
}

export class Reflector<T> {
  readonly #options: ReflectorOptions<T>;
  readonly #events: ReflectorEvents<T>;
  readonly #closed = new AbortController();
  /** Apart, so that a server that lists but refuses every watch is not asked for list after list. */
  readonly #lists: Backoff;
  readonly #watches: Backoff;
  /** Of versions that were forgotten, which is an answer: what came before, an outage, must not put the list off. */
  readonly #forgotten: Backoff;
  /** key → version of every object that exists */
  readonly #versions = new Map<string, string>();
  /** where the next watch resumes; undefined: a list is needed */
  #resume: string | undefined;
  #synced = false;
  #outage = false;
  #pending: Change<T>[] = [];
  #flush: NodeJS.Immediate | undefined;

  constructor(options: ReflectorOptions<T>, events: ReflectorEvents<T>) {
    this.#options = options;
    this.#events = events;
    this.#lists = new Backoff(options.maxPauseMs);
    this.#watches = new Backoff(options.maxPauseMs);
    this.#forgotten = new Backoff(options.maxPauseMs);
  }

  start(): void {
    void this.#run();
  }

  /** Ends the connection; nothing is delivered any more. */
  close(): void {
    this.#closed.abort();
    clearImmediate(this.#flush);
    this.#pending = [];
    this.#versions.clear();
  }

  /** Of the objects that exist. */
  keys(): string[] {
    return [...this.#versions.keys()];
  }

  async #run(): Promise<void> {
    while (!this.#isClosed()) {
      const backoff = this.#resume === undefined ? this.#lists : this.#watches;
      try {
        if (this.#resume === undefined) this.#resume = await this.#list();
        else if (!(await this.#watch(this.#resume))) await backoff.wait(this.#closed.signal);
      } catch (error) {
        if (!this.#isClosed()) this.#failed(error);
        await (isKubernetes(error, 410) ? this.#forgotten : backoff).wait(this.#closed.signal, retryAfterMs(error));
      }
    }
  }

  #isClosed(): boolean {
    return this.#closed.signal.aborted;
  }

  /** @returns the version that the list is of */
  async #list(): Promise<string> {
    const { api, path, query = {} } = this.#options;
    const seen = new Set<string>();
    let version = '';
    let next: string | undefined;
    do {
      const paging = { limit: String(PAGE), ...(next === undefined ? {} : { continue: next }) };
      const page = await api.list(path, { ...query, ...paging }, this.#closed.signal);
      version = page.resourceVersion;
      next = page.continue;
      for (const item of page.items) {
        const key = this.#take(item);
        if (key !== undefined) seen.add(key);
      }
      this.#deliver();
    } while (next !== undefined);
    for (const key of this.#versions.keys()) if (!seen.has(key)) this.#drop(key);
    this.#deliver();
    this.#lists.reset();
    this.#recovered();
    if (!this.#synced) {
      this.#synced = true;
      this.#guard(() => this.#events.onSynced());
    }
    return version;
  }

  /** @returns true when the next watch may follow at once */
  async #watch(from: string): Promise<boolean> {
    const { api, path, query = {} } = this.#options;
    const timeoutSeconds = String(randomInt(...WATCH_SECONDS));
    let opened: number | undefined;
    try {
      await api.watch(
        path,
        { ...query, resourceVersion: from, timeoutSeconds },
        (event) => this.#event(event),
        this.#closed.signal,
        () => {
          opened = performance.now();
          this.#recovered();
        },
      );
    } catch (error) {
      // After an event that could not be read, or one that the server has forgotten, only a list tells what is there.
      if (opened !== undefined || !(isKubernetes(error) && RESUMABLE.has(error.status))) this.#resume = undefined;
      throw error;
    } finally {
      this.#deliver();
    }
    const stood = opened !== undefined && performance.now() - opened >= STOOD_MS;
    if (stood) this.#answered();
    return stood;
  }

  #answered(): void {
    this.#watches.reset();
    this.#forgotten.reset();
  }

  #event({ type, object }: WatchEvent): void {
    this.#answered();
    const { resourceVersion } = object.metadata;
    if (typeof resourceVersion === 'string' && resourceVersion !== '') this.#resume = resourceVersion;
    if (type === 'BOOKMARK') return;
    if (type === 'DELETED') {
      if (isKubeObject(object)) this.#drop(keyOf(object));
    } else this.#take(object);
    // What further chunks bring in this turn of the loop belongs to the same batch.
    this.#flush ??= setImmediate(() => this.#deliver());
  }

  /** @returns its key, also when it is unreadable: it exists */
  #take(object: unknown): string | undefined {
    if (!isKubeObject(object)) {
      this.#report(new CulvertError('SOURCE_INVALID', `read an object of ${this.#options.path}: it has no name`));
      return undefined;
    }
    const key = keyOf(object);
    const version = object.metadata.resourceVersion ?? '';
    if (version !== '' && this.#versions.get(key) === version) return key;
    this.#versions.set(key, version);
    try {
      this.#pending.push({ key, value: this.#options.convert(object) });
    } catch (error) {
      this.#report(error);
    }
    return key;
  }

  #drop(key: string): void {
    if (this.#versions.delete(key)) this.#pending.push({ key, value: undefined });
  }

  #deliver(): void {
    clearImmediate(this.#flush);
    this.#flush = undefined;
    const changes = this.#pending;
    if (changes.length === 0 || this.#isClosed()) return;
    this.#pending = [];
    this.#guard(() => this.#events.onChanges(changes));
  }

  #failed(error: unknown): void {
    if (isKubernetes(error, 410)) {
      this.#resume = undefined;
      this.#options.log.debug({ path: this.#options.path }, 'version too old to resume from: listing again');
      return;
    }
    if (!this.#outage) this.#report(error);
    this.#outage = true;
  }

  #recovered(): void {
    if (!this.#outage) return;
    this.#outage = false;
    this.#options.log.info({ path: this.#options.path }, 'the Kubernetes API answers again');
    this.#guard(() => this.#events.onRecovered?.());
  }

  #report(error: unknown): void {
    this.#guard(() => this.#events.onError(error instanceof Error ? error : new Error(String(error))));
  }

  /** A listener's own fault must not end the reflection. */
  #guard(tell: () => void): void {
    try {
      tell();
    } catch (error) {
      this.#options.log.error({ path: this.#options.path, error: describe(error) }, 'a change was not taken in');
    }
  }
}

function keyOf({ metadata: { namespace, name } }: KubeObject): string {
  return typeof namespace === 'string' && namespace !== '' ? `${namespace}/${name}` : name;
}
