/** What is wrong in objects, said once and again only when it changes. */
import type { Logger } from '../../base/log.ts';

export class Faults {
  readonly #log: Logger;
  readonly #reported = new Map<string, string>();

  constructor(log: Logger) {
    this.#log = log;
  }

  /** @param object its kind and key; no faults: it is fine now, or gone */
  set(object: string, faults: readonly string[]): void {
    const text = faults.join('; ');
    if (text === (this.#reported.get(object) ?? '')) return;
    if (text === '') this.#reported.delete(object);
    else {
      this.#reported.set(object, text);
      this.#log.warn({ object, faults }, 'part of an object is left out');
    }
  }
}
