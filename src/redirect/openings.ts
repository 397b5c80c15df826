/**
 * Drivers other than the node's, opened when the first pod asks for one. What cannot be opened is not tried for every pod, but again
 * from time to time: a program may be installed meanwhile, or a module loaded.
 */
import { describe } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import type { DriverName, RedirectDriver } from './driver.ts';

export class Openings {
  readonly #open: (name: DriverName) => Promise<RedirectDriver>;
  readonly #come: (driver: RedirectDriver) => void;
  readonly #log: Logger;
  readonly #opening = new Map<DriverName, Promise<RedirectDriver | undefined>>();
  /** why one cannot be opened */
  readonly #refused = new Map<DriverName, string>();
  /** what was said last of each: the same is said once */
  readonly #said = new Map<DriverName, string>();
  #closed = false;

  /** @param come told of each that is open, once */
  constructor(open: (name: DriverName) => Promise<RedirectDriver>, come: (driver: RedirectDriver) => void, log: Logger) {
    this.#open = open;
    this.#come = come;
    this.#log = log;
  }

  /** Undefined: it is not refused, as far as is known. */
  refusal(name: DriverName): string | undefined {
    return this.#refused.get(name);
  }

  refusals(): ReadonlyMap<DriverName, string> {
    return this.#refused;
  }

  /** Who asks while it is being opened gets the same one. @returns undefined: refused, now or before */
  async open(name: DriverName): Promise<RedirectDriver | undefined> {
    return this.#refused.has(name) ? undefined : this.#try(name);
  }

  /** Tries each once more that somebody still asks for; of the others nothing is known any more. */
  async retry(asked: ReadonlySet<DriverName>): Promise<void> {
    await Promise.all(
      [...this.#refused.keys()].map(async (name) => {
        if (asked.has(name)) await this.#try(name);
        else this.#refused.delete(name);
      }),
    );
  }

  /** What is being opened now is closed when it is. */
  close(): void {
    this.#closed = true;
  }

  /** Who asks once it is open must find it: nothing may come in between. @returns undefined: it was closed again */
  async #opened(name: DriverName): Promise<RedirectDriver | undefined> {
    const driver = await this.#open(name);
    if (this.#closed) {
      driver.close();
      return undefined;
    }
    this.#come(driver);
    return driver;
  }

  async #try(name: DriverName): Promise<RedirectDriver | undefined> {
    try {
      const opening = this.#opening.get(name) ?? this.#opened(name).finally(() => this.#opening.delete(name));
      this.#opening.set(name, opening);
      const driver = await opening;
      if (driver === undefined) return undefined;
      this.#refused.delete(name);
      this.#said.delete(name);
      return driver;
    } catch (error) {
      const why = describe(error);
      this.#refused.set(name, why);
      if (this.#said.get(name) !== why) this.#log.warn({ driver: name, error: why }, 'redirect driver that a pod asks for cannot run');
      this.#said.set(name, why);
      return undefined;
    }
  }
}
