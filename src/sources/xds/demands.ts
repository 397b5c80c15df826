/**
 * Addresses asked for one by one ("network/ip" as resource names), for meshes too large to be held whole on every node. Whoever asks
 * for the same address shares one question. A name stays subscribed while something is behind it; one that nothing is behind is given
 * up at once, because control planes answer only a subscription that is new to them.
 */
import { canonicalIp } from '../../state/address.ts';

const DEADLINE_MS = 5000;
/** Questions that nobody has answered yet. Beyond it an address counts as unknown, and is asked for when it is next dialled. */
const MAX_ASKED = 4096;

interface Question {
  promise: Promise<void>;
  settle: () => void;
}

export type Subscribe = (change: { subscribe?: string[]; unsubscribe?: string[] }) => void;

export class Demands {
  readonly #network: string;
  readonly #subscribe: Subscribe;
  readonly #waiting = new Map<string, Question>();
  /** subscribed and not answered, whether somebody still waits or not */
  readonly #asked = new Set<string>();
  /** subscribed, and something is behind it */
  readonly #found = new Set<string>();

  /** @param subscribe tells the control plane, if it is there; if not, the next stream begins with `names()` */
  constructor(network: string, subscribe: Subscribe) {
    this.#network = network;
    this.#subscribe = subscribe;
  }

  /** Resolves when it was answered, or after 5 s. */
  demand(ip: string): Promise<void> {
    const name = `${this.#network}/${canonicalIp(ip) ?? ip}`;
    const question = this.#waiting.get(name);
    if (question !== undefined) return question.promise;
    if (this.#found.has(name)) return Promise.resolve();
    if (!this.#asked.has(name)) {
      if (this.#asked.size >= MAX_ASKED) return Promise.resolve();
      this.#asked.add(name);
      this.#subscribe({ subscribe: [name] });
    }
    return this.#wait(name);
  }

  /** All that is subscribed. */
  names(): string[] {
    return [...this.#asked, ...this.#found];
  }

  /** Something was said about these names. @param found it is held now */
  answered(names: Iterable<string>, found: boolean): void {
    const gone: string[] = [];
    for (const name of names) {
      const asked = this.#asked.delete(name);
      const held = this.#found.delete(name);
      if (!asked && !held) continue;
      if (found) this.#found.add(name);
      else gone.push(name);
      this.#waiting.get(name)?.settle();
    }
    if (gone.length > 0) this.#subscribe({ unsubscribe: gone });
  }

  /** Nobody is kept waiting. */
  close(): void {
    for (const { settle } of [...this.#waiting.values()]) settle();
  }

  #wait(name: string): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<undefined>();
    const settle = (): void => {
      clearTimeout(timer);
      this.#waiting.delete(name);
      resolve(undefined);
    };
    const timer = setTimeout(settle, DEADLINE_MS);
    timer.unref();
    this.#waiting.set(name, { promise, settle });
    return promise;
  }
}
