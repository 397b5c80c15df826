/** Which drivers have something in a netns. The owner is the last of them; others are there only while it moves. */
import type { RedirectDriver } from './driver.ts';

export class Holders {
  readonly #byCookie = new Map<bigint, readonly RedirectDriver[]>();

  of(cookie: bigint): readonly RedirectDriver[] {
    return this.#byCookie.get(cookie) ?? [];
  }

  owner(cookie: bigint): RedirectDriver | undefined {
    return this.of(cookie).at(-1);
  }

  /** Becomes the owner. */
  add(cookie: bigint, driver: RedirectDriver): void {
    this.#byCookie.set(cookie, [...this.of(cookie).filter((other) => other !== driver), driver]);
  }

  drop(cookie: bigint, driver: RedirectDriver): void {
    const left = this.of(cookie).filter((other) => other !== driver);
    if (left.length === 0) this.#byCookie.delete(cookie);
    else this.#byCookie.set(cookie, left);
  }

  has(driver: RedirectDriver): boolean {
    return [...this.#byCookie.values()].some((holders) => holders.includes(driver));
  }
}
