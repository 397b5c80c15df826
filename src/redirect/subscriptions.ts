/** Listeners of one kind at every driver that is open, also at those that are opened later. */
import type { RedirectDriver } from './driver.ts';

type Listener<T> = (told: T) => void;

export class Subscriptions<T> {
  readonly #subscribe: (driver: RedirectDriver, listener: Listener<T>) => { close(): void };
  /** listener -> driver -> its subscription there */
  readonly #listeners = new Map<Listener<T>, Map<RedirectDriver, { close(): void }>>();
  readonly #drivers = new Set<RedirectDriver>();

  constructor(subscribe: (driver: RedirectDriver, listener: Listener<T>) => { close(): void }) {
    this.#subscribe = subscribe;
  }

  /** The same listener twice is two subscriptions. */
  on(listener: Listener<T>): { close(): void } {
    const own: Listener<T> = (told) => listener(told);
    this.#listeners.set(own, new Map([...this.#drivers].map((driver) => [driver, this.#subscribe(driver, own)])));
    return {
      close: () => {
        for (const subscription of this.#listeners.get(own)?.values() ?? []) subscription.close();
        this.#listeners.delete(own);
      },
    };
  }

  /** What is no driver's to tell. */
  tell(told: T): void {
    for (const listener of [...this.#listeners.keys()]) listener(told);
  }

  add(driver: RedirectDriver): void {
    this.#drivers.add(driver);
    for (const [listener, subscriptions] of this.#listeners) subscriptions.set(driver, this.#subscribe(driver, listener));
  }

  drop(driver: RedirectDriver): void {
    this.#drivers.delete(driver);
    for (const subscriptions of this.#listeners.values()) {
      subscriptions.get(driver)?.close();
      subscriptions.delete(driver);
    }
  }
}
