/** Addresses that more than one pod or service claims as its own: all are served, and people are told once. */
import type { Logger } from '../../base/log.ts';
import { NameIndex } from '../name-index.ts';

export class Claims {
  readonly #log: Logger;
  readonly #claimants = new NameIndex();
  readonly #claims = new Map<string, readonly string[]>();
  /** address → the names reported */
  readonly #reported = new Map<string, string>();
  readonly #touched = new Set<string>();

  constructor(log: Logger) {
    this.#log = log;
  }

  /** @param addresses "network/address"; none: it claims nothing any more */
  set(name: string, addresses: readonly string[]): void {
    for (const address of this.#claims.get(name) ?? []) {
      this.#claimants.delete(address, name);
      this.#touched.add(address);
    }
    if (addresses.length === 0) this.#claims.delete(name);
    else this.#claims.set(name, addresses);
    for (const address of addresses) {
      this.#claimants.add(address, name);
      this.#touched.add(address);
    }
  }

  /** After all of a batch is known, so that an address that moves within it is not reported. */
  report(): void {
    for (const address of this.#touched) {
      const names = [...this.#claimants.get(address)].sort();
      const text = names.join(', ');
      if (names.length < 2) this.#reported.delete(address);
      else if (this.#reported.get(address) !== text) {
        this.#reported.set(address, text);
        this.#log.warn({ address, names }, 'address is claimed more than once');
      }
    }
    this.#touched.clear();
  }
}
