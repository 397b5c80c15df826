/** Which workloads a policy is for: all labels of its selector must be on the pod. */
import { SelectorIndex, type Labels } from '../catalog/selector-index.ts';
import { isAbsent, under, type Reading } from './reading.ts';

/** At least one label, sorted by key. */
export type Selector = Labels;

/** @returns undefined: no selector, or none that can be read. One without labels selects all, as if it were not there */
export function readSelector(reading: Reading, value: unknown): Selector | undefined {
  if (isAbsent(value)) return undefined;
  const fields = reading.object(value, 'selector', ['matchLabels']);
  const path = under('selector', 'matchLabels');
  if (fields === undefined || isAbsent(fields['matchLabels'])) return undefined;
  const labels: [string, string][] = [];
  for (const [key, text] of Object.entries(reading.map(fields['matchLabels'], path) ?? {})) {
    if (typeof text !== 'string') reading.fault(under(path, key), 'must be a text', text);
    else if (key === '' || key.includes('*') || text.includes('*')) reading.fault(path, 'must be labels without wildcard', { [key]: text });
    else labels.push([key, text]);
  }
  return labels.length === 0 ? undefined : Object.fromEntries(labels.sort(([a], [b]) => (a < b ? -1 : 1)));
}

export function sameSelector(one: Selector | undefined, other: Selector | undefined): boolean {
  return JSON.stringify(one) === JSON.stringify(other);
}

/** Selectors of all namespaces. */
export class Selectors {
  readonly #namespaces = new Map<string, SelectorIndex<string>>();

  /** @param selector undefined: the policy has none any more */
  set(namespace: string, policy: string, selector: Selector | undefined): void {
    const index = this.#namespaces.get(namespace) ?? new SelectorIndex<string>();
    this.#namespaces.set(namespace, index);
    if (selector === undefined) index.delete(policy);
    else index.set(policy, selector);
    if (index.size === 0) this.#namespaces.delete(namespace);
  }

  /** Policies of this namespace that select a workload with these labels, in no order. */
  matching(namespace: string, labels: Labels): Iterable<string> {
    return this.#namespaces.get(namespace)?.matching(labels) ?? [];
  }
}
