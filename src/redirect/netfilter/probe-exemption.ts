/**
 * The node's own connections to pods of ours come from an address that no policy applies to, as with istio-cni. Rule and sets are there
 * while at least one pod is; one thing at a time is done to them.
 */
import type { Logger } from '../../base/log.ts';
import { describe } from '../../base/errors.ts';
import type { Backend, Member } from './backend.ts';

/** nft takes 128 bytes with the one that ends it */
const LONGEST_COMMENT = 127;

export class ProbeExemption {
  readonly #backend: Backend;
  readonly #netnsFd: number;
  readonly #log: Logger;
  /** by uid */
  readonly #members = new Map<string, string[]>();
  #turn: Promise<void> = Promise.resolve();
  #standing = false;

  /** @param netnsFd of the node, the caller's */
  constructor(backend: Backend, netnsFd: number, log: Logger) {
    this.#backend = backend;
    this.#netnsFd = netnsFd;
    this.#log = log;
  }

  /** @throws CulvertError SYSTEM; the pod's probes would then be subject to its policies */
  put(uid: string, addresses: readonly string[]): Promise<void> {
    return this.#next(async () => {
      const before = this.#members.get(uid) ?? [];
      this.#members.set(uid, [...addresses]);
      if (!this.#standing) {
        await this.#backend.writeNode(this.#netnsFd, this.all());
        this.#standing = true;
        return;
      }
      const gone = before.filter((address) => !addresses.includes(address) && !this.#holds(address));
      const fresh = addresses.filter((address) => !before.includes(address));
      if (gone.length > 0) await this.#change(false, membersOf(uid, gone));
      if (fresh.length > 0) await this.#change(true, membersOf(uid, fresh));
    });
  }

  /** The last one takes everything with it. */
  take(uid: string): Promise<void> {
    return this.#next(async () => {
      const gone = this.#members.get(uid);
      if (gone === undefined) return this.#members.size === 0 && this.#standing ? this.#clear() : undefined;
      this.#members.delete(uid);
      if (this.#members.size === 0) return this.#clear();
      // an address that another pod has by now stays
      const left = gone.filter((address) => !this.#holds(address));
      if (left.length > 0) await this.#change(false, membersOf(uid, left));
    });
  }

  /** Everything anew, as after a restart or when somebody flushed the node's rules. Never throws. */
  restore(): Promise<void> {
    return this.#next(async () => {
      if (this.#members.size === 0) return;
      await this.#backend.writeNode(this.#netnsFd, this.all());
      this.#standing = true;
    }).catch((error: unknown) => {
      this.#log.error({ error: describe(error) }, 'rule of the node for probes not put back');
    });
  }

  /** After `know`. What an earlier run left goes, where nobody is there any more. Never throws. */
  start(): Promise<void> {
    if (this.#members.size > 0) return this.restore();
    return this.#next(() => this.#clear()).catch((error: unknown) => {
      this.#log.warn({ error: describe(error) }, 'rule of the node for probes not taken off');
    });
  }

  /** Before `start`: who is there already. */
  know(uid: string, addresses: readonly string[]): void {
    this.#members.set(uid, [...addresses]);
  }

  all(): Member[] {
    return [...this.#members].flatMap(([uid, addresses]) => membersOf(uid, addresses));
  }

  /** What is not there to be changed was taken away by somebody: it is made anew, with all that belongs in it. */
  async #change(add: boolean, members: readonly Member[]): Promise<void> {
    try {
      await this.#backend.changeMembers(this.#netnsFd, add, members);
    } catch (error) {
      this.#log.warn({ error: describe(error) }, "the node's set of probed pods is made anew");
      await this.#backend.writeNode(this.#netnsFd, this.all());
    }
  }

  async #clear(): Promise<void> {
    await this.#backend.clearNode(this.#netnsFd);
    this.#standing = false;
  }

  #holds(address: string): boolean {
    return [...this.#members.values()].some((addresses) => addresses.includes(address));
  }

  #next(action: () => Promise<void>): Promise<void> {
    const done = this.#turn.then(action);
    this.#turn = done.catch(() => undefined);
    return done;
  }
}

/** The uid is written beside the address, for people: what programs or the kernel would not take as a comment is left out. */
function membersOf(uid: string, addresses: readonly string[]): Member[] {
  const comment = uid.replace(/[^\w.:/-]/g, '_').slice(0, LONGEST_COMMENT);
  return addresses.map((address) => ({ address, uid: comment }));
}
