/**
 * Which replica leads: a Lease that the leader renews. Clocks of replicas are never compared: a candidate takes over when, by its own
 * clock, the record has not changed for the lease's duration; a leader counts from before it sent the last renewal that succeeded, and
 * steps down earlier than that. At most one leads at any moment.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { isDeepStrictEqual } from 'node:util';
import { CulvertError, describe } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import type { KubeApi, KubeObject } from './api.ts';
import { isKubernetes } from './errors.ts';
import { isRecord } from './json.ts';

const DURATION_MS = 15_000;
/** for giving it back; then it runs out by itself */
const RELEASE_MS = 5_000;

export interface LeaseOptions {
  api: KubeApi;
  namespace: string;
  name: string;
  /** of this candidate, and of no other process: the pod's name */
  identity: string;
  /** others wait this long for a silent leader; whole seconds, default 15000 */
  durationMs?: number;
  /** a leader that could not renew for this long is none any more; default 2/3 of the duration */
  renewMs?: number;
  /** between attempts; default 2/15 of the duration */
  retryMs?: number;
  log: Logger;
}

type Listener = (leader: boolean) => void;

export class Lease {
  readonly #options: LeaseOptions;
  readonly #durationMs: number;
  readonly #renewMs: number;
  readonly #retryMs: number;
  readonly #path: string;
  readonly #listeners = new Set<Listener>();
  /** the record as last seen, and when it was first seen so, on `performance.now()` */
  #observed: { spec: unknown; at: number } | undefined;
  #leader = false;
  /** until when our last renewal holds, on `performance.now()` */
  #holdsUntil = 0;
  #retry: NodeJS.Timeout | undefined;
  #expiry: NodeJS.Timeout | undefined;
  #attempt: Promise<void> = Promise.resolve();
  #failing = false;
  #closed = false;

  /** @throws CONFIG_INVALID when a leader would not step down before another may take over */
  constructor(options: LeaseOptions) {
    this.#options = options;
    this.#durationMs = options.durationMs ?? DURATION_MS;
    this.#renewMs = options.renewMs ?? (this.#durationMs * 2) / 3;
    this.#retryMs = options.retryMs ?? (this.#durationMs * 2) / 15;
    if (this.#durationMs % 1000 !== 0 || this.#renewMs >= this.#durationMs || this.#retryMs >= this.#renewMs)
      throw new CulvertError('CONFIG_INVALID', 'configure lease: needs retry < renew < duration, the duration in whole seconds');
    this.#path = `/apis/coordination.k8s.io/v1/namespaces/${options.namespace}/leases`;
  }

  start(): void {
    this.#again(0);
  }

  isLeader(): boolean {
    // Asked of the clock: a timer may be late.
    return this.#leader && performance.now() < this.#holdsUntil;
  }

  /** Told of every change from here on. @returns what ends it */
  onChange(listener: Listener): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Steps down and gives the lease back, so that another need not wait; without an answer from the server it runs out by itself. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    clearTimeout(this.#retry);
    this.#become(false);
    const patience = delay(RELEASE_MS, undefined, { ref: false });
    await Promise.race([this.#attempt.then(() => this.#release()), patience]);
  }

  async #release(): Promise<void> {
    try {
      const lease = await this.#options.api.get(`${this.#path}/${this.#options.name}`);
      if (lease !== undefined && holderOf(lease) === this.#options.identity) await this.#write(lease, { holderIdentity: '' });
    } catch (error) {
      this.#options.log.debug({ error: describe(error) }, 'lease not given back');
    }
  }

  #again(ms: number): void {
    if (this.#closed) return;
    this.#retry = setTimeout(() => {
      this.#attempt = this.#try().then(() => this.#again(this.#retryMs));
    }, ms);
    this.#retry.unref();
  }

  async #try(): Promise<void> {
    const { name, namespace, identity, log } = this.#options;
    try {
      await this.#acquireOrRenew();
      this.#failing = false;
    } catch (error) {
      if (isKubernetes(error, 409)) {
        log.debug({ lease: `${namespace}/${name}`, identity }, 'another replica was faster');
        return;
      }
      if (!this.#failing) log.warn({ lease: `${namespace}/${name}`, error: describe(error) }, 'lease neither taken nor renewed');
      this.#failing = true;
    }
  }

  async #acquireOrRenew(): Promise<void> {
    const { api, name, identity } = this.#options;
    const lease = await api.get(`${this.#path}/${name}`);
    const now = new Date().toISOString().replace('Z', '000Z'); // MicroTime
    const sent = performance.now();
    const record = { holderIdentity: identity, leaseDurationSeconds: this.#durationMs / 1000, renewTime: now };
    if (lease === undefined) {
      await api.create(this.#path, {
        apiVersion: 'coordination.k8s.io/v1',
        kind: 'Lease',
        metadata: { name },
        spec: { ...record, acquireTime: now, leaseTransitions: 0 },
      });
    } else {
      this.#observe(lease);
      const holder = holderOf(lease);
      if (holder !== identity) this.#become(false);
      if (holder !== identity && holder !== '' && !this.#ranOut(lease)) return;
      const transitions = specOf(lease)['leaseTransitions'];
      const taken = { acquireTime: now, leaseTransitions: (typeof transitions === 'number' ? transitions : 0) + 1 };
      await this.#write(lease, { ...record, ...(holder === identity ? {} : taken) });
    }
    if (this.#closed) return;
    this.#holdsUntil = sent + this.#renewMs;
    this.#become(performance.now() < this.#holdsUntil);
  }

  /** The version goes along: who changed it meanwhile wins, with 409 for us. */
  async #write(lease: KubeObject, spec: Record<string, unknown>): Promise<void> {
    await this.#options.api.replace(`${this.#path}/${this.#options.name}`, { ...lease, spec: { ...specOf(lease), ...spec } });
  }

  #observe(lease: KubeObject): void {
    const spec = specOf(lease);
    if (!isDeepStrictEqual(spec, this.#observed?.spec)) this.#observed = { spec, at: performance.now() };
  }

  /** Its holder is silent for as long as it promised not to be. */
  #ranOut(lease: KubeObject): boolean {
    const seconds = specOf(lease)['leaseDurationSeconds'];
    const durationMs = typeof seconds === 'number' ? seconds * 1000 : this.#durationMs;
    return this.#observed !== undefined && performance.now() >= this.#observed.at + durationMs;
  }

  #become(leader: boolean): void {
    clearTimeout(this.#expiry);
    if (leader) {
      this.#expiry = setTimeout(() => this.#become(false), this.#holdsUntil - performance.now());
      this.#expiry.unref();
    }
    if (leader === this.#leader) return;
    this.#leader = leader;
    const { namespace, name, identity, log } = this.#options;
    log.info({ lease: `${namespace}/${name}`, identity }, leader ? 'leads now' : 'leads no more');
    for (const listener of [...this.#listeners]) listener(leader);
  }
}

function specOf(lease: KubeObject): Record<string, unknown> {
  return isRecord(lease['spec']) ? lease['spec'] : {};
}

/** empty: free */
function holderOf(lease: KubeObject): string {
  const holder = specOf(lease)['holderIdentity'];
  return typeof holder === 'string' ? holder : '';
}
