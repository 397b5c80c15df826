/**
 * The pods that the agent gave us, by ZDS's rules: Add starts a proxy, Del stops it, Keep and SnapshotSent reconcile after a
 * reconnect. A mistake of the agent costs it the connection, never us the pods that run.
 */
import { closeSync, fstatSync } from 'node:fs';
import { CulvertError, describe } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import type { WorkloadInfo, ZdsRequest } from '../zds/messages.ts';

const RETRY_MS = 5_000;

/** The part of a pod's proxy that this file deals with. */
export interface RunningProxy {
  stop(): Promise<void>;
  drain(deadlineMs: number): Promise<void>;
}

/** @param netnsFd open until the proxy was stopped, or until starting it was given up */
export type StartProxy<P extends RunningProxy> = (uid: string, info: WorkloadInfo, netnsFd: number) => Promise<P>;

interface Running<P> {
  proxy: P;
  netnsFd: number;
  netns: string;
}

interface Pending {
  info: WorkloadInfo;
  netnsFd: number;
}

export class Workloads<P extends RunningProxy> {
  readonly #start: StartProxy<P>;
  readonly #log: Logger;
  readonly #retryMs: number;
  readonly #running = new Map<string, Running<P>>();
  readonly #pending = new Map<string, Pending>();
  /** uids mentioned on this connection before its SnapshotSent; undefined afterwards */
  #mentioned: Set<string> | undefined;
  #connected = false;
  #retry: NodeJS.Timeout | undefined;
  /** one step at a time: requests and retries must not overlap */
  #queue: Promise<void> = Promise.resolve();
  #closed = false;

  constructor(start: StartProxy<P>, log: Logger, retryMs = RETRY_MS) {
    this.#start = start;
    this.#log = log;
    this.#retryMs = retryMs;
  }

  running(): { uid: string; proxy: P }[] {
    return [...this.#running].map(([uid, { proxy }]) => ({ uid, proxy }));
  }

  pending(): { uid: string; info: WorkloadInfo }[] {
    return [...this.#pending].map(([uid, { info }]) => ({ uid, info }));
  }

  /** The agent's snapshot is complete and every pod of it runs. */
  get ready(): boolean {
    return this.#connected && this.#mentioned === undefined && this.#pending.size === 0;
  }

  /** A new connection starts with a new snapshot; what runs goes on. */
  connected(): void {
    this.#connected = true;
    this.#mentioned = new Set();
    this.#inTurn(() => {
      for (const uid of [...this.#pending.keys()]) this.#dropPending(uid);
      return Promise.resolve();
    }).catch(() => undefined);
  }

  disconnected(): void {
    this.#connected = false;
  }

  /**
   * @param netnsFd with Add only; owned by this call
   * @throws ZDS_PROTOCOL: nack and reconnect. ENROL_FAILED: nack, the pod is pending and tried again
   */
  handle(request: ZdsRequest, netnsFd?: number): Promise<void> {
    return this.#inTurn(() => this.#handle(request, netnsFd));
  }

  /** Stops everything: gracefully within the deadline, or with 0 at once. */
  async close(deadlineMs: number): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#retry);
    await this.#inTurn(async () => {
      for (const uid of [...this.#pending.keys()]) this.#dropPending(uid);
      await Promise.all(
        [...this.#running.keys()].map((uid) => this.#stop(uid, (proxy) => (deadlineMs > 0 ? proxy.drain(deadlineMs) : proxy.stop()))),
      );
    });
  }

  #inTurn(step: () => Promise<void>): Promise<void> {
    const result = this.#queue.then(step);
    this.#queue = result.catch(() => undefined);
    return result;
  }

  async #handle(request: ZdsRequest, netnsFd: number | undefined): Promise<void> {
    switch (request.kind) {
      case 'add':
        if (netnsFd === undefined) throw new CulvertError('ZDS_PROTOCOL', `add ${request.uid}: no netns fd came with it`);
        this.#mentioned?.add(request.uid);
        return this.#add(request.uid, request.workload, netnsFd);
      case 'keep':
        if (this.#mentioned === undefined) throw new CulvertError('ZDS_PROTOCOL', `keep ${request.uid}: the snapshot is over`);
        this.#mentioned.add(request.uid);
        return;
      case 'del':
        this.#dropPending(request.uid);
        // Within a snapshot it only goes unmentioned; the end of the snapshot stops it.
        if (this.#mentioned === undefined) await this.#stop(request.uid, (proxy) => proxy.stop());
        else this.#mentioned.delete(request.uid);
        return;
      case 'snapshotSent':
        return this.#reconcile();
    }
  }

  async #add(uid: string, info: WorkloadInfo, netnsFd: number): Promise<void> {
    if (this.#closed) {
      closeSync(netnsFd);
      throw new CulvertError('ENROL_FAILED', `failure to start proxy : the tunnel is shutting down`);
    }
    const netns = netnsIdentity(netnsFd);
    const running = this.#running.get(uid);
    if (running?.netns === netns) {
      closeSync(netnsFd);
      return;
    }
    this.#dropPending(uid);
    if (running !== undefined) await this.#stop(uid, (proxy) => proxy.stop());
    try {
      await this.#run(uid, info, netnsFd, netns);
    } catch (error) {
      this.#pending.set(uid, { info, netnsFd });
      this.#scheduleRetry();
      throw new CulvertError('ENROL_FAILED', `failure to start proxy : ${describe(error)}`, error);
    }
  }

  async #run(uid: string, info: WorkloadInfo, netnsFd: number, netns: string): Promise<void> {
    const proxy = await this.#start(uid, info, netnsFd);
    this.#running.set(uid, { proxy, netnsFd, netns });
    this.#log.info({ uid, pod: `${info.namespace}/${info.name}` }, 'pod served');
  }

  async #stop(uid: string, how: (proxy: P) => Promise<void>): Promise<void> {
    const running = this.#running.get(uid);
    if (running === undefined) return;
    this.#running.delete(uid);
    await how(running.proxy);
    closeSync(running.netnsFd);
    this.#log.info({ uid }, 'pod served no more');
  }

  async #reconcile(): Promise<void> {
    const mentioned = this.#mentioned;
    if (mentioned === undefined) throw new CulvertError('ZDS_PROTOCOL', 'snapshot sent: it was sent before on this connection');
    this.#mentioned = undefined;
    const gone = [...this.#running.keys()].filter((uid) => !mentioned.has(uid));
    await Promise.all(gone.map((uid) => this.#stop(uid, (proxy) => proxy.stop())));
  }

  #dropPending(uid: string): void {
    const pending = this.#pending.get(uid);
    if (pending === undefined) return;
    this.#pending.delete(uid);
    closeSync(pending.netnsFd);
  }

  #scheduleRetry(): void {
    clearTimeout(this.#retry);
    if (this.#closed || this.#pending.size === 0) return;
    this.#retry = setTimeout(() => {
      this.#inTurn(() => this.#retryPending()).catch((error: unknown) => {
        this.#log.error({ err: error }, 'retry of pending pods failed');
      });
    }, this.#retryMs);
    this.#retry.unref();
  }

  async #retryPending(): Promise<void> {
    for (const [uid, { info, netnsFd }] of [...this.#pending]) {
      try {
        await this.#run(uid, info, netnsFd, netnsIdentity(netnsFd));
        this.#pending.delete(uid);
      } catch (error) {
        this.#log.warn({ uid, pod: `${info.namespace}/${info.name}`, error: describe(error) }, 'pod still pending');
      }
    }
    this.#scheduleRetry();
  }
}

/** The same netns has the same inode of nsfs, by whatever path it was opened. */
function netnsIdentity(fd: number): string {
  const { dev, ino } = fstatSync(fd, { bigint: true });
  return `${String(dev)}:${String(ino)}`;
}
