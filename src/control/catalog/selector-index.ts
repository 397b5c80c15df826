/**
 * Which selectors match a set of labels. Each selector is filed under one of its labels, the rarest, so that a pod is compared with
 * the few services that share a label with it and not with all of its namespace.
 */
export type Labels = Readonly<Record<string, string>>;

interface Filed<T> {
  selector: Labels;
  value: T;
}

export class SelectorIndex<T> {
  /** "key=value" of one label of the selector → what is filed under it */
  readonly #shelves = new Map<string, Map<T, Filed<T>>>();
  readonly #labels = new Map<T, string>();

  get size(): number {
    return this.#labels.size;
  }

  /** An empty selector selects nothing. What was filed for `value` before is replaced. */
  set(value: T, selector: Labels): void {
    this.delete(value);
    const [label] = Object.entries(selector)
      .map(([key, wanted]) => `${key}=${wanted}`)
      .sort((a, b) => (this.#shelves.get(a)?.size ?? 0) - (this.#shelves.get(b)?.size ?? 0));
    if (label === undefined) return;
    const shelf = this.#shelves.get(label);
    if (shelf === undefined) this.#shelves.set(label, new Map([[value, { selector, value }]]));
    else shelf.set(value, { selector, value });
    this.#labels.set(value, label);
  }

  delete(value: T): void {
    const label = this.#labels.get(value);
    if (label === undefined) return;
    this.#labels.delete(value);
    const shelf = this.#shelves.get(label);
    shelf?.delete(value);
    if (shelf?.size === 0) this.#shelves.delete(label);
  }

  *matching(labels: Labels): Generator<T> {
    for (const key in labels)
      for (const { selector, value } of this.#shelves.get(`${key}=${labels[key] ?? ''}`)?.values() ?? [])
        if (selects(selector, labels)) yield value;
  }
}

/** @param selector not empty */
export function selects(selector: Labels, labels: Labels): boolean {
  for (const key in selector) if (labels[key] !== selector[key]) return false;
  return true;
}
