/**
 * An index in which several may claim one key: two pods with one address while the older is not yet known to be gone, two services
 * with one virtual address. Who comes first is a matter of what they are, never of which arrived first.
 */
import { placeOf } from './sorted.ts';

export class Claims<V extends object> {
  readonly #order: (a: V, b: V) => number;
  /** best first; never empty */
  readonly #claimants = new Map<string, V[]>();

  /** @param order total: two different claimants are never equal */
  constructor(order: (a: V, b: V) => number) {
    this.#order = order;
  }

  add(key: string, claimant: V): void {
    const claimants = this.#claimants.get(key);
    if (claimants === undefined) this.#claimants.set(key, [claimant]);
    else claimants.splice(placeOf(claimants, claimant, this.#order), 0, claimant);
  }

  /** @param claimant the very object that was added */
  remove(key: string, claimant: V): void {
    const claimants = this.#claimants.get(key);
    const at = claimants?.indexOf(claimant) ?? -1;
    if (claimants === undefined || at < 0) return;
    if (claimants.length === 1) this.#claimants.delete(key);
    else claimants.splice(at, 1);
  }

  first(key: string): V | undefined {
    return this.#claimants.get(key)?.[0];
  }

  /** Best first. */
  all(key: string): readonly V[] {
    return this.#claimants.get(key) ?? [];
  }
}
