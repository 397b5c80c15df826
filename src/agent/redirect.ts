/** `culvert redirect`: any netns behind the redirect by hand, without pod and without ZDS; mark 0x539 alone proves the tunnel there. */
import { fstatSync } from 'node:fs';
import { CulvertError } from '../base/errors.ts';
import { BY_HAND } from '../enrol/restart.ts';
import { wire } from '../maps/layout.ts';
import type { EnrolledNetns, RedirectDriver } from '../redirect/driver.ts';
import { Netns } from '../sys/netns.ts';
import type { RedirectStatus } from './api.ts';
import { NO_COUNTERS } from './answers.ts';

/** Captured connections may take this long to end after `off`. */
const REMOVE_DEADLINE_MS = 1000;
/** How often it is looked whether a netns is still somebody's, while there is one. */
const PRUNE_MS = 2000;

export interface ManualRedirectParts {
  driver: RedirectDriver;
  /** of an open netns; throws for anything else */
  cookieOf: (fd: number) => bigint;
  /** somebody with the tunnel's mark listens in this netns */
  listens: (netnsFd: number) => boolean;
  /** pids among which that tunnel is looked for */
  processes: () => number[];
  /** inodes of the netns that somebody can still use */
  held: () => Set<string>;
}

/** Asks the netns itself. @throws CulvertError SYSTEM when it cannot be entered */
export function tunnelListens(netnsFd: number): boolean {
  const netns = Netns.adopt(netnsFd); // not closed: the fd is the caller's
  return netns.run({ op: 'sockets', mark: wire.MARK_TUNNEL, mask: wire.MARK_MASK, listening: true }).length > 0;
}

export class ManualRedirect {
  readonly #driver: RedirectDriver;
  readonly #cookieOf: (fd: number) => bigint;
  readonly #listens: (netnsFd: number) => boolean;
  readonly #processes: () => number[];
  readonly #held: () => Set<string>;
  /** inode by cookie. The driver's watch keeps these alive: nothing but this says when they are nobody's any more. */
  readonly #known = new Map<bigint, string>();
  #timer: NodeJS.Timeout | undefined;

  constructor({ driver, cookieOf, listens, processes, held }: ManualRedirectParts) {
    this.#driver = driver;
    this.#cookieOf = cookieOf;
    this.#listens = listens;
    this.#processes = processes;
    this.#held = held;
  }

  /** Active at once: until a tunnel listens there, its connections are refused. @throws NETNS_TAKEN when it is a pod's */
  async on(netnsFd: number | undefined, flags: { dns?: boolean | undefined; ingressMode?: boolean | undefined }): Promise<RedirectStatus> {
    const { fd, cookie } = this.#named(netnsFd);
    this.#notAPods(cookie);
    const target = { uid: `${BY_HAND}${cookie}`, namespace: '', name: `netns-${cookie}`, netnsFd: fd, netnsCookie: cookie, netnsPath: '' };
    await this.#driver.prepare({ ...target, flags: { dns: flags.dns ?? true, ingressMode: flags.ingressMode ?? false, markOnly: true } });
    this.#adopt(fd, cookie);
    await this.#driver.activate(cookie);
    this.#known.set(cookie, String(fstatSync(fd, { bigint: true }).ino));
    this.#timer ??= setInterval(() => void this.prune().catch(() => undefined), PRUNE_MS).unref(); // the next look tries again
    return this.#status(cookie);
  }

  async off(netnsFd: number | undefined): Promise<RedirectStatus> {
    const { fd, cookie } = this.#named(netnsFd);
    if (this.#notAPods(cookie) !== undefined) {
      await this.#driver.drain(cookie);
      await this.#driver.remove(cookie, fd, REMOVE_DEADLINE_MS);
    }
    this.#forget(cookie);
    return this.#status(cookie);
  }

  /** Takes out what is nobody's any more: a suite makes netns by the dozen, and says nothing when they go. */
  async prune(): Promise<void> {
    const held = this.#held();
    for (const [cookie, inode] of [...this.#known]) {
      if (held.has(inode)) continue;
      await this.#driver.remove(cookie, undefined, 0);
      this.#forget(cookie);
    }
  }

  #forget(cookie: bigint): void {
    this.#known.delete(cookie);
    if (this.#known.size > 0) return;
    clearInterval(this.#timer);
    this.#timer = undefined;
  }

  show(netnsFd: number | undefined): RedirectStatus {
    return this.#status(this.#named(netnsFd).cookie);
  }

  /** A tunnel that listens here already: nobody says which process it is, so all are looked at, but only where one listens. */
  #adopt(netnsFd: number, cookie: bigint): void {
    if (!this.#listens(netnsFd)) return;
    for (const pid of this.#processes()) {
      try {
        this.#driver.adoptListeners(cookie, pid);
      } catch {
        // ended meanwhile, or not ours to look into: then it is not the tunnel
      }
    }
  }

  #named(netnsFd: number | undefined): { fd: number; cookie: bigint } {
    if (netnsFd === undefined) throw new CulvertError('USAGE', 'redirect: no network namespace came with the request');
    try {
      return { fd: netnsFd, cookie: this.#cookieOf(netnsFd) };
    } catch (error) {
      throw new CulvertError('NETNS_UNKNOWN', 'redirect: what came with the request is no network namespace', error, { retryable: false });
    }
  }

  #notAPods(cookie: bigint): EnrolledNetns | undefined {
    const found = this.#find(cookie);
    if (found === undefined || found.uid.startsWith(BY_HAND)) return found;
    throw new CulvertError('NETNS_TAKEN', `redirect: netns ${cookie} belongs to pod ${found.namespace}/${found.name}; its label decides`);
  }

  #find(cookie: bigint): EnrolledNetns | undefined {
    return this.#driver.snapshot().find((each) => each.cookie === cookie);
  }

  #status(cookie: bigint): RedirectStatus {
    const found = this.#find(cookie);
    if (found === undefined) return { netnsCookie: String(cookie), datapath: 'none', listeners: [], counters: NO_COUNTERS };
    return {
      netnsCookie: String(cookie),
      datapath: found.state,
      listeners: this.#driver.listeners(cookie),
      counters: this.#driver.counters(cookie),
    };
  }
}
