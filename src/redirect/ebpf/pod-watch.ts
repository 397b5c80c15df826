/**
 * Follows one netns by rtnetlink while the agent lives. Addresses that come or go reach the maps; rules and routes that somebody with
 * NET_ADMIN in the pod deleted are put back and counted. Everything is read anew on each change, so a lost notification costs nothing
 * once the next one, or the overflow, arrives.
 *
 * The subscription keeps the netns alive, as the fd does: the agent must call `remove` for a pod that is gone.
 */
import { describe } from '../../base/errors.ts';
import type { Logger } from '../../base/log.ts';
import type { Maps } from '../../maps/index.ts';
import { native } from '../../sys/native.ts';
import { Netns } from '../../sys/netns.ts';
import { inspectNetns, missingDeviceRoutes, missingSettings, putDeviceRoutes, putSettings, type NetnsView } from './netns-settings.ts';
import { writeAddresses, type Written } from './pod-entries.ts';

/** A pod that changes its netns without end gets no more of the agent's time than this, and no more lines of its log. */
const PAUSE_MS = 20;
const LOG_PAUSE_MS = 10_000;

export class PodWatch {
  readonly cookie: bigint;
  /** our own fd of it: the caller's is valid during its call only */
  readonly netns: Netns;
  readonly written: Written;
  /** settings that had to be put back since the agent started */
  restored = 0;
  readonly #maps: Maps;
  readonly #log: Logger;
  readonly #subscription: { close(): void };
  #addresses = '';
  #pending: { cancel(): void } | undefined;
  #followed = -Infinity;
  #logged = -Infinity;
  #closed = false;

  /** @param netnsFd duplicated */
  constructor(cookie: bigint, netnsFd: number, written: Written, maps: Maps, log: Logger) {
    this.cookie = cookie;
    this.written = written;
    this.#maps = maps;
    this.#log = log;
    this.netns = Netns.open(`/proc/self/fd/${netnsFd}`);
    try {
      this.#subscription = native.netnsWatch(this.netns.fd, () => this.#schedule());
    } catch (error) {
      this.netns.close();
      throw error;
    }
  }

  /**
   * Brings maps and settings to what they should be.
   * @param view the netns as just read
   * @returns how many settings were missing though no address changed: somebody took them away
   */
  sync(view: NetnsView = inspectNetns(this.netns)): number {
    writeAddresses(this.#maps, this.cookie, this.written, view.addresses);
    const missing = missingSettings(view);
    putSettings(this.netns, missing);
    putDeviceRoutes(this.netns, missingDeviceRoutes(view));
    const addresses = [...this.written.own].join();
    const sameAddresses = addresses === this.#addresses;
    this.#addresses = addresses;
    // the kernel itself drops a route whose source address goes
    return sameAddresses ? missing.length : missing.filter((op) => op.op !== 'route').length;
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#pending?.cancel();
    this.#subscription.close();
    this.netns.close();
  }

  /** Several notifications of one change are one reading. */
  #schedule(): void {
    if (this.#closed) return;
    if (this.#pending !== undefined) return;
    const follow = (): void => {
      this.#pending = undefined;
      this.follow();
    };
    const wait = this.#followed + PAUSE_MS - performance.now();
    if (wait <= 0) {
      const immediate = setImmediate(follow);
      this.#pending = { cancel: () => clearImmediate(immediate) };
    } else {
      const timer = setTimeout(follow, wait);
      this.#pending = { cancel: () => clearTimeout(timer) };
    }
  }

  /** Reads everything anew and puts back what is missing. Never throws. */
  follow(): void {
    if (this.#closed) return;
    try {
      const missing = this.sync();
      if (missing === 0) return;
      this.restored += missing;
      if (performance.now() < this.#logged + LOG_PAUSE_MS) return;
      this.#logged = performance.now();
      this.#log.warn({ cookie: String(this.cookie), missing, restored: this.restored }, 'put back what was deleted in the netns of a pod');
    } catch (error) {
      // the next change, or the agent's next reconciliation, tries again; marked packets meet `prohibit` meanwhile
      this.#log.error({ cookie: String(this.cookie), error: describe(error) }, 'follow the netns of a pod');
    } finally {
      this.#followed = performance.now();
    }
  }
}
