/**
 * Programs of pods that are still to come. The verifier takes longer than all the rest of a pod's joining, so it has its turn before:
 * on another thread, one program after the other, and nobody waits for it. A burst of pods that is faster loads its own.
 */
import { describe } from '../../base/errors.ts';
import type { Logger } from '../../base/log.ts';
import { loadPodProgram, SpareProgram, type PodTemplate } from './pod-program.ts';

/** For as many pods at once as a node starts now and then; each is 12 KiB of the kernel's memory and 2 ms, once. */
export const SPARES = 8;

export class SparePrograms {
  readonly #template: PodTemplate;
  readonly #log: Logger;
  readonly #ready: SpareProgram[] = [];
  #loading = false;
  #closed = false;

  /** @param template whose maps stay open until this is closed */
  constructor(template: PodTemplate, log: Logger) {
    this.#template = template;
    this.#log = log;
    this.#refill();
  }

  /** @returns fd of a program of this netns, owned by the caller */
  take(cookie: bigint): number {
    const program = this.#ready.pop()?.give(cookie) ?? loadPodProgram(this.#template, cookie);
    this.#refill();
    return program;
  }

  /** programs that are loaded and nobody's */
  get count(): number {
    return this.#ready.length;
  }

  close(): void {
    this.#closed = true;
    for (const spare of this.#ready.splice(0)) spare.close();
  }

  /** Not before this turn of the event loop is over: the pod that took one goes on first. */
  #refill(): void {
    if (this.#loading || this.#closed || this.#ready.length >= SPARES) return;
    this.#loading = true;
    setImmediate(() => {
      if (!this.#closed) void this.#load();
    });
  }

  /** Never throws: a pod whose program is not there loads it, and says why it could not. */
  async #load(): Promise<void> {
    try {
      const spare = await SpareProgram.load(this.#template);
      if (this.#closed) spare.close();
      else this.#ready.push(spare);
    } catch (error) {
      if (!this.#closed) this.#log.warn({ error: describe(error) }, 'program for a pod to come not loaded');
      return; // tried again with the next pod
    } finally {
      this.#loading = false;
    }
    this.#refill();
  }
}
