/**
 * Which selectors match a set of labels. Each selector is filed under one of its labels, the rarest, so that a pod is compared with
 * the few services that share a label with it and not with all of its namespace.
 */
export type Labels = Readonly<Record<string, string>>;

/** What is filed under one label → the whole selector. */
type Shelf<T> = Map<T, Labels>;

export class SelectorIndex<T> {
  /** label key → label value → shelf */
  readonly #shelves = new Map<string, Map<string, Shelf<T>>>();
  readonly #filed = new Map<T, { key: string; wanted: string }>();

  get size(): number {
    return this.#filed.size;
  }

  /** An empty selector selects nothing. What was filed for `value` before is replaced. */
  set(value: T, selector: Labels): void {
    this.delete(value);
    const crowd = ([key, wanted]: [string, string]): number => this.#shelves.get(key)?.get(wanted)?.size ?? 0;
    const [rarest] = Object.entries(selector).sort((a, b) => crowd(a) - crowd(b));
    if (rarest === undefined) return;
    const [key, wanted] = rarest;
    const values = entry(this.#shelves, key, () => new Map<string, Shelf<T>>());
    entry(values, wanted, () => new Map<T, Labels>()).set(value, selector);
    this.#filed.set(value, { key, wanted });
  }

  delete(value: T): void {
    const filed = this.#filed.get(value);
    if (filed === undefined) return;
    this.#filed.delete(value);
    const values = this.#shelves.get(filed.key);
    const shelf = values?.get(filed.wanted);
    shelf?.delete(value);
    if (shelf?.size === 0) values?.delete(filed.wanted);
    if (values?.size === 0) this.#shelves.delete(filed.key);
  }

  matching(labels: Labels): T[] {
    const found: T[] = [];
    for (const key in labels)
      for (const [value, selector] of this.#shelves.get(key)?.get(labels[key] ?? '') ?? [])
        if (selects(selector, labels)) found.push(value);
    return found;
  }
}

/** @param selector not empty */
function selects(selector: Labels, labels: Labels): boolean {
  for (const key in selector) if (labels[key] !== selector[key]) return false;
  return true;
}

function entry<K, V>(map: Map<K, V>, key: K, make: () => V): V {
  const held = map.get(key);
  if (held !== undefined) return held;
  const made = make();
  map.set(key, made);
  return made;
}
