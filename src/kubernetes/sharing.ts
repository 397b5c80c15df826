/**
 * One copy of what thousands of objects repeat: names of nodes, namespaces and accounts, and whole sets of labels. JSON brings each
 * object its own.
 */

/** What was shared so far is forgotten then: only churn gets there, and the copies in use stay shared. */
const LIMIT = 50_000;

export class Sharing {
  readonly #texts = new Map<string, string>();
  readonly #maps = new Map<string, Record<string, string>>();

  text(text: string): string {
    const known = this.#texts.get(text);
    if (known !== undefined) return known;
    if (this.#texts.size >= LIMIT) this.#texts.clear();
    this.#texts.set(text, text);
    return text;
  }

  /** The result is shared: nobody may change it. */
  map(map: Record<string, string>): Record<string, string> {
    const key = JSON.stringify(map);
    const known = this.#maps.get(key);
    if (known !== undefined) return known;
    if (this.#maps.size >= LIMIT) this.#maps.clear();
    this.#maps.set(key, map);
    return map;
  }
}
