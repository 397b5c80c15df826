/**
 * What each action of the state table does, against driver, tunnel and source. Every step may be repeated; its error says by
 * `retryable` whether that can help. The order is the table's, not this file's.
 */
import { CulvertError, describe } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import { wire } from '../maps/layout.ts';
import type { DatapathState, DriverName, PodFlags, PodTarget, RedirectDriver } from '../redirect/driver.ts';
import type { PodRecord } from '../sources/source.ts';
import type { ZdsServer } from '../zds/server.ts';
import { isProcessPath, type Netns } from './netns.ts';
import { isAnnotated, REDIRECTION_ANNOTATION } from './policy.ts';
import type { Action } from './states.ts';

/** One pod as the steps see it; they keep `datapath` and `cookie` true. */
export interface Subject {
  readonly uid: string;
  namespace: string;
  name: string;
  serviceAccount: string;
  flags: PodFlags;
  /** its own choice; undefined: the node's */
  driver?: DriverName | undefined;
  virtualInterfaces?: readonly string[];
  /** what the datapath was last asked for; undefined: not in this life of the agent */
  /** somebody else's redirect captures it, with this tunnel behind it, until ours is active: what fails before undoes only what is ours */
  foreign?: boolean | undefined;
  servedFor?: { driver: DriverName | undefined } | undefined;
  netns: Netns | undefined;
  /** undefined until the driver knows it */
  cookie: bigint | undefined;
  datapath: DatapathState;
  /** gone from the source: there is nobody to annotate, and nothing to be graceful to */
  deleted: boolean;
  /** the redirection annotation as last written, and whether the source has shown it so; undefined: not written yet */
  annotation: { value: string | undefined; shown: boolean } | undefined;
}

export interface StepsOptions {
  driver: RedirectDriver;
  zds: Pick<ZdsServer, 'add' | 'del' | 'provide' | 'connections'>;
  annotate: (pod: { uid: string; namespace: string; name: string }, key: string, value: string | undefined) => Promise<void>;
  log: Logger;
  /** longest wait for peers to learn that a pod leaves; ms */
  graceCapMs: number;
  /** how long 15008 must stay without a new connection for the grace to end; ms, default 1000 */
  graceQuietMs?: number;
  /** how long the captured connections of a pod that leaves may go on before the tunnel ends them; ms, default 0 */
  leaveDeadlineMs?: number;
  /** between two questions after them, each a walk over the netns' sockets; ms, default 500 */
  drainPollMs?: number;
  /** how long captured connections may take to end after the tunnel let go of them; ms, default 3000 */
  removeDeadlineMs?: number;
}

const GRACE_POLL_MS = 100;

export class Steps {
  readonly #o: StepsOptions;

  constructor(options: StepsOptions) {
    this.#o = options;
  }

  /** @param signal ends a grace early; no other step can be stopped half-way */
  async run(action: Action, pod: Subject, signal: AbortSignal): Promise<void> {
    switch (action) {
      case 'prepare':
        return this.#prepare(pod);
      case 'reconcile':
        return this.#reconcile(pod);
      case 'zdsAdd':
        return this.#zdsAdd(pod);
      case 'activate':
        await this.#o.driver.activate(cookieOf(pod));
        pod.datapath = 'active';
        pod.foreign = false;
        return;
      case 'drain':
        if (pod.datapath !== 'active' || pod.cookie === undefined) return;
        await this.#o.driver.drain(pod.cookie);
        pod.datapath = 'draining';
        return;
      case 'grace':
        return this.#grace(pod, signal);
      case 'zdsDel':
        if (pod.foreign === true) return;
        return this.#o.zds.del(pod.uid);
      case 'remove':
        return this.#remove(pod);
      case 'annotateEnabled':
        return this.#annotate(pod, 'enabled');
      case 'annotatePending':
        if (pod.foreign === true) return;
        return this.#annotateLoosely(pod, 'pending');
      case 'annotateOff':
        if (pod.foreign === true && pod.cookie !== undefined) {
          await this.#o.driver.drain(pod.cookie); // it leaves for good, and so does the other's redirect
          pod.foreign = false;
        }
        if (pod.deleted) return this.#annotateLoosely(pod, undefined);
        return this.#annotate(pod, undefined);
    }
  }

  async #prepare(pod: Subject): Promise<void> {
    const { driver } = pod;
    const { cookie, state, foreign } = await this.#o.driver.prepare(targetOf(pod));
    pod.cookie = cookie;
    pod.datapath = state;
    pod.servedFor = { driver };
    pod.foreign = foreign;
  }

  async #reconcile(pod: Subject): Promise<void> {
    const { driver } = pod;
    const { cookie, state } = await this.#o.driver.reconcile(targetOf(pod));
    pod.cookie = cookie;
    pod.datapath = state;
    pod.servedFor = { driver };
    this.#o.zds.provide(workloadOf(pod)); // a tunnel that was told to keep it may be new, and have nothing to keep
    for (const { peer } of this.#o.zds.connections()) this.adoptListeners(pod, peer.pid);
  }

  /** For a netns that the tunnel served before our maps were there. One that has a listener is left alone. */
  adoptListeners(pod: Subject, pid: number): void {
    if (pod.cookie === undefined || pod.datapath === 'none' || this.#listens(pod.cookie)) return;
    const fields = { pod: `${pod.namespace}/${pod.name}`, pid };
    try {
      const adopted = this.#o.driver.adoptListeners(pod.cookie, pid);
      if (adopted > 0) this.#o.log.info({ ...fields, adopted }, 'listeners of the tunnel adopted');
    } catch (error) {
      this.#o.log.warn({ ...fields, error: describe(error) }, 'listeners of the tunnel not adopted');
    }
  }

  async #zdsAdd(pod: Subject): Promise<void> {
    targetOf(pod); // without a netns there is nothing to hand over
    const tunnel = await this.#o.zds.add(workloadOf(pod));
    const cookie = cookieOf(pod);
    if (this.#listens(cookie)) return;
    // It serves this netns from before our maps: an Add opens no listeners then, and none registered.
    const adopted = this.#o.driver.adoptListeners(cookie, tunnel.pid);
    if (this.#listens(cookie)) return;
    const message = `enrol pod ${pod.namespace}/${pod.name}: the tunnel acknowledged it, but no listener of it on ${wire.PORT_OUTBOUND} is registered (${adopted} adopted)`;
    throw new CulvertError('ENROL_FAILED', message);
  }

  #listens(cookie: bigint): boolean {
    return this.#o.driver.listeners(cookie).some((listener) => listener.port === wire.PORT_OUTBOUND && listener.alive);
  }

  /** Who is still on the way gets through, and what is open may end by itself. */
  async #grace(pod: Subject, signal: AbortSignal): Promise<void> {
    if (pod.deleted) return;
    const deadline = performance.now() + (this.#o.leaveDeadlineMs ?? 0);
    await this.#quiet(pod, signal);
    while (!signal.aborted && performance.now() < deadline && this.#captured(pod) > 0) await pause(this.#o.drainPollMs ?? 500, signal);
  }

  #captured(pod: Subject): number {
    if (pod.netns === undefined || (pod.netns.gone() && !isProcessPath(pod.netns.path))) return 0;
    return this.#o.driver.captured(pod.netns.fd);
  }

  /** Peers send HBONE until they have seen the annotation go: as long as new ones arrive, somebody has not. */
  async #quiet(pod: Subject, signal: AbortSignal): Promise<void> {
    if (pod.cookie === undefined) return;
    const quietMs = this.#o.graceQuietMs ?? 1000;
    const end = performance.now() + this.#o.graceCapMs;
    let count = await this.#o.driver.hboneAccepted(pod.cookie);
    let since = performance.now();
    while (!signal.aborted && performance.now() < end && performance.now() - since < quietMs) {
      await pause(Math.min(GRACE_POLL_MS, quietMs), signal);
      const now = await this.#o.driver.hboneAccepted(pod.cookie);
      if (now === count) continue;
      count = now;
      since = performance.now();
    }
  }

  async #remove(pod: Subject): Promise<void> {
    if (pod.cookie === undefined) return;
    await this.#o.driver.remove(pod.cookie, pod.netns?.fd, pod.deleted ? 0 : (this.#o.removeDeadlineMs ?? 3000));
    pod.datapath = 'none';
    pod.cookie = undefined;
  }

  async #annotate(pod: Subject, value: string | undefined): Promise<void> {
    await this.#o.annotate(pod, REDIRECTION_ANNOTATION, value);
    pod.annotation = { value, shown: false };
  }

  async #annotateLoosely(pod: Subject, value: string | undefined): Promise<void> {
    try {
      await this.#annotate(pod, value);
    } catch (error) {
      this.#o.log.debug({ pod: `${pod.namespace}/${pod.name}`, error: describe(error) }, 'annotation not written');
    }
  }
}

export function workloadOf(pod: Subject): Parameters<ZdsServer['provide']>[0] {
  return { uid: pod.uid, info: { name: pod.name, namespace: pod.namespace, serviceAccount: pod.serviceAccount }, netnsFd: pod.netns?.fd };
}

/**
 * True when the source shows an annotation that somebody else wrote: what peers go by is not so then. What we wrote may take its time
 * to come back, so that it counts only once it was seen.
 */
export function annotationOverwritten({ annotation }: Subject, record: Pick<PodRecord, 'annotations'>): boolean {
  if (annotation === undefined) return isAnnotated(record);
  const same = annotation.value === undefined ? !isAnnotated(record) : record.annotations[REDIRECTION_ANNOTATION] === annotation.value;
  annotation.shown ||= same;
  return annotation.shown && !same;
}

function targetOf(pod: Subject): PodTarget {
  if (pod.netns === undefined)
    throw new CulvertError('NETNS_UNKNOWN', `enrol pod ${pod.namespace}/${pod.name}: its network namespace is not known`);
  const { uid, namespace, name, netns, flags, driver, virtualInterfaces = [] } = pod;
  const target = { uid, namespace, name, netnsFd: netns.fd, netnsCookie: netns.cookie, netnsPath: netns.path, flags };
  return { ...target, ...(driver !== undefined && { driver }), ...(virtualInterfaces.length > 0 && { virtualInterfaces }) };
}

function cookieOf(pod: Subject): bigint {
  if (pod.cookie === undefined)
    throw new CulvertError('ENROL_FAILED', `enrol pod ${pod.namespace}/${pod.name}: nothing is prepared in its network namespace`);
  return pod.cookie;
}

function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(done, ms);
    signal.addEventListener('abort', done, { once: true });
    function done(): void {
      clearTimeout(timer);
      signal.removeEventListener('abort', done);
      resolve();
    }
  });
}
