/** Drivers that end in a netns in the background, after a pause in which they can still be called back. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { RedirectDriver } from './driver.ts';

interface Ending {
  done: Promise<void>;
  pause: AbortController;
}

export class Endings {
  readonly #running = new Map<string, Ending>();
  #closed = false;

  has(driver: RedirectDriver, cookie: bigint): boolean {
    return this.#running.has(key(driver, cookie));
  }

  /**
   * One at a time of each.
   * @param end not called when it is called back before
   * @param after called in any case; neither may throw
   */
  start(driver: RedirectDriver, cookie: bigint, pauseMs: number, end: () => Promise<void>, after: () => void): void {
    const name = key(driver, cookie);
    const pause = new AbortController();
    const run = async (): Promise<void> => {
      try {
        await sleep(pauseMs, undefined, { signal: pause.signal }).catch(() => undefined);
        if (!pause.signal.aborted) await end();
      } finally {
        this.#running.delete(name);
        after();
      }
    };
    this.#running.set(name, { done: run(), pause });
    if (this.#closed) pause.abort();
  }

  /** Called back; resolves when it does nothing any more: what has begun is awaited. */
  async callBack(driver: RedirectDriver, cookie: bigint): Promise<void> {
    const ending = this.#running.get(key(driver, cookie));
    ending?.pause.abort();
    await ending?.done;
  }

  /** Those that have not begun do not. */
  close(): void {
    this.#closed = true;
    for (const { pause } of this.#running.values()) pause.abort();
  }

  async settled(): Promise<void> {
    await Promise.all([...this.#running.values()].map(({ done }) => done));
  }
}

const key = ({ name }: RedirectDriver, cookie: bigint): string => `${name} ${cookie}`;
