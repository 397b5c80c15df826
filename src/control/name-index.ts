/** Names by a key that several may share. Nearly every address has one owner, so a lone name is kept bare: a Set for each costs megabytes. */
export class NameIndex {
  readonly #names = new Map<string, string | Set<string>>();

  add(key: string, name: string): void {
    const held = this.#names.get(key);
    if (held === undefined || held === name) this.#names.set(key, name);
    else if (typeof held === 'string') this.#names.set(key, new Set([held, name]));
    else held.add(name);
  }

  delete(key: string, name: string): void {
    const held = this.#names.get(key);
    if (held === name) this.#names.delete(key);
    if (!(held instanceof Set) || !held.delete(name) || held.size > 1) return;
    for (const last of held) this.#names.set(key, last);
  }

  /** In the order of adding. */
  get(key: string): Iterable<string> {
    const held = this.#names.get(key);
    return held === undefined ? [] : typeof held === 'string' ? [held] : held;
  }

  keys(): Iterable<string> {
    return this.#names.keys();
  }
}
