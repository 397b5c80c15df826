/**
 * The pods of one node and all namespaces, listed and watched, put together to snapshots: the first once both are known, then one per
 * turn of the loop that changed anything. Only what changed is read anew.
 */
import { isDeepStrictEqual } from 'node:util';
import { describe } from '../../base/errors.ts';
import type { Logger } from '../../base/log.ts';
import type { KubeApi, KubeObject } from '../../kubernetes/api.ts';
import { isKubernetes } from '../../kubernetes/errors.ts';
import { Reflector, type Change, type ReflectorEvents } from '../../kubernetes/reflector.ts';
import { Sharing } from '../../kubernetes/sharing.ts';
import type { MeshSnapshot, NamespaceRecord, PodRecord } from '../source.ts';
import { ObservedPods, type ObservedPod, type OnVersion } from './pods.ts';
import { namespaceRecord, podRecord } from './records.ts';

const PODS = '/api/v1/pods';
const NAMESPACES = '/api/v1/namespaces';
/** Pods wait to be enrolled while nothing is known of them: an API server that is back is asked soon. */
const MAX_PAUSE_MS = 10_000;

export interface MirrorOptions {
  api: KubeApi;
  /** whose pods */
  node: string;
  log: Logger;
}

export interface MirrorEvents {
  onSnapshot(snapshot: MeshSnapshot): void;
  /** An object that cannot be read, or the API that is away: said once. */
  onError(error: Error): void;
  /** of every pod, also when nothing of its record changed */
  onVersion: OnVersion;
}

export class Mirror {
  readonly #log: Logger;
  readonly #events: MirrorEvents;
  readonly #pods: ObservedPods;
  readonly #namespaces = new Map<string, NamespaceRecord>();
  readonly #reflectors: readonly { start(): void; close(): void }[];
  readonly #unsynced = new Set([PODS, NAMESPACES]);
  /** path of a collection → HTTP status of its outage */
  readonly #away = new Map<string, number>();
  #podsChanged = true;
  #namespacesChanged = true;
  /** pods that wait for their namespace */
  #heldBack = 0;
  #last: MeshSnapshot | undefined;
  #due: NodeJS.Immediate | undefined;

  constructor({ api, node, log }: MirrorOptions, events: MirrorEvents) {
    this.#log = log;
    this.#events = events;
    this.#pods = new ObservedPods(events.onVersion);
    const sharing = new Sharing();
    const common = { api, maxPauseMs: MAX_PAUSE_MS, log };
    const query = { fieldSelector: `spec.nodeName=${node}` };
    this.#reflectors = [
      new Reflector(
        { ...common, path: PODS, query, convert: (object) => this.#readPod(object, sharing) },
        this.#eventsOf(PODS, (changes: readonly Change<ObservedPod>[]) => this.#takePods(changes)),
      ),
      new Reflector(
        { ...common, path: NAMESPACES, convert: namespaceRecord },
        this.#eventsOf(NAMESPACES, (changes: readonly Change<NamespaceRecord>[]) => this.#takeNamespaces(changes)),
      ),
    ];
  }

  start(): void {
    for (const reflector of this.#reflectors) reflector.start();
  }

  close(): void {
    clearImmediate(this.#due);
    for (const reflector of this.#reflectors) reflector.close();
  }

  get last(): MeshSnapshot | undefined {
    return this.#last;
  }

  /** @returns undefined when there is none of that name, or another one */
  pod({ uid, namespace, name }: { uid: string; namespace: string; name: string }): ObservedPod | undefined {
    const observed = this.#pods.get(`${namespace}/${name}`);
    return observed?.record.uid === uid ? observed : undefined;
  }

  #eventsOf<T>(path: string, take: (changes: readonly Change<T>[]) => void): ReflectorEvents<T> {
    return {
      onChanges: take,
      onSynced: () => {
        this.#unsynced.delete(path);
        this.#schedule();
      },
      onError: (error) => this.#failed(path, error),
      onRecovered: () => this.#away.delete(path),
    };
  }

  #takePods(changes: readonly Change<ObservedPod>[]): void {
    if (!this.#pods.apply(changes)) return;
    this.#podsChanged = true;
    this.#schedule();
  }

  #takeNamespaces(changes: readonly Change<NamespaceRecord>[]): void {
    for (const { key, value } of changes) {
      if (isDeepStrictEqual(this.#namespaces.get(key), value)) continue;
      this.#namespacesChanged = true;
      if (value === undefined) this.#namespaces.delete(key);
      else this.#namespaces.set(key, value);
    }
    if (this.#namespacesChanged) this.#schedule();
  }

  /** What is unreadable leaves the last good state in use, but not that of another pod that had its name. */
  #readPod(object: KubeObject, sharing: Sharing): ObservedPod | undefined {
    const { uid, namespace = '', name, resourceVersion: version = '' } = object.metadata;
    try {
      return { record: podRecord(object, sharing), version };
    } catch (error) {
      const known = this.#pods.get(`${namespace}/${name}`);
      if (known === undefined || known.record.uid === uid) throw error;
      this.#events.onError(error instanceof Error ? error : new Error(String(error)));
      return undefined;
    }
  }

  /** What both watches bring in one turn of the loop is one snapshot. */
  #schedule(): void {
    if (this.#unsynced.size === 0) this.#due ??= setImmediate(() => this.#deliver());
  }

  #deliver(): void {
    this.#due = undefined;
    const last = this.#last;
    const namespaces = last === undefined || this.#namespacesChanged ? new Map(this.#namespaces) : last.namespaces;
    const pods = this.#podsOf(namespaces, last?.pods);
    this.#podsChanged = this.#namespacesChanged = false;
    if (pods === last?.pods && namespaces === last.namespaces) return; // what came must wait
    this.#last = { trustDomain: '', namespaces, pods, services: NONE };
    try {
      this.#events.onSnapshot(this.#last);
    } catch (error) {
      this.#log.error({ error: describe(error) }, 'a snapshot was not taken in');
    }
  }

  /**
   * A new pod whose namespace has not come yet is held back: the two watches do not keep step, and without its namespace it would
   * count as one that nobody wants in the mesh. One that was told of stays, though its namespace may go before it.
   */
  #podsOf(namespaces: MeshSnapshot['namespaces'], before: MeshSnapshot['pods'] | undefined): MeshSnapshot['pods'] {
    if (before !== undefined && !this.#podsChanged && this.#heldBack === 0) return before;
    const pods = new Map<string, PodRecord>();
    let heldBack = 0;
    for (const record of this.#pods.records()) {
      if (namespaces.has(record.namespace) || before?.has(record.uid) === true) pods.set(record.uid, record);
      else heldBack++;
    }
    if (heldBack > 0) this.#log.debug({ pods: heldBack }, 'pods wait for their namespace to be known');
    const same = before !== undefined && !this.#podsChanged && heldBack === this.#heldBack;
    this.#heldBack = heldBack;
    return same ? before : pods;
  }

  /** Two collections that are refused for one cause are one piece of news. */
  #failed(path: string, error: Error): void {
    if (isKubernetes(error)) {
      const known = [...this.#away.values()].includes(error.status);
      this.#away.set(path, error.status);
      if (known) {
        this.#log.debug({ path, error: describe(error) }, 'the Kubernetes API does not answer');
        return;
      }
    }
    this.#events.onError(error);
  }
}

const NONE: MeshSnapshot['services'] = new Map();
