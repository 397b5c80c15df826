/**
 * Enablement selectors: which labels of a pod and of its namespace ask for the mesh. They mean what label selectors mean in Kubernetes,
 * and are written as in istio-cni's values. Pure.
 */
import { parse as parseYaml } from 'yaml';
import { z } from 'zod';

type Labels = Record<string, string>;

const NAME = /^[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$/;
const PREFIX = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/;

const key = z.string().refine(isKey, { error: ({ input }) => `must be a label's key, found ${JSON.stringify(input)}` });
const value = z.string().refine((text) => text === '' || NAME.test(text), {
  error: ({ input }) => `must be a label's value, found ${JSON.stringify(input)}`,
});

const requirement = z
  .strictObject({
    key,
    operator: z.enum(['In', 'NotIn', 'Exists', 'DoesNotExist'], {
      error: ({ input }) => `must be In, NotIn, Exists or DoesNotExist, found ${JSON.stringify(input)}`,
    }),
    values: z.array(value).nullish(),
  })
  .superRefine(({ operator, values }, context) => {
    const takes = operator === 'In' || operator === 'NotIn';
    const given = (values ?? []).length;
    if (takes && given === 0) context.addIssue({ code: 'custom', path: ['values'], message: `operator ${operator} needs at least one` });
    if (!takes && given > 0)
      context.addIssue({ code: 'custom', path: ['values'], message: `operator ${operator} takes none, found ${JSON.stringify(values)}` });
  });

const labelSelector = z.strictObject({
  matchLabels: z.record(key, value).nullish(),
  matchExpressions: z.array(requirement).nullish(),
});

const list = z.array(z.strictObject({ podSelector: labelSelector.nullish(), namespaceSelector: labelSelector.nullish() }));

/** In flags and variables the list is YAML or JSON. What is none stays text, and is refused as such. */
export const enablementSelectorsSchema = z.preprocess((input) => (typeof input === 'string' ? fromYaml(input) : input), list);

export type LabelSelector = z.infer<typeof labelSelector>;
export type EnablementSelector = z.infer<typeof list>[number];

/** One without requirements matches everything. */
export function matches(selector: LabelSelector | null | undefined, labels: Labels): boolean {
  const of = (name: string): string | undefined => (Object.hasOwn(labels, name) ? labels[name] : undefined);
  return (
    Object.entries(selector?.matchLabels ?? {}).every(([name, wanted]) => of(name) === wanted) &&
    (selector?.matchExpressions ?? []).every(({ key: name, operator, values }) => {
      const found = of(name);
      switch (operator) {
        case 'In':
          return found !== undefined && values?.includes(found) === true;
        case 'NotIn':
          return found === undefined || values?.includes(found) !== true;
        case 'Exists':
          return found !== undefined;
        case 'DoesNotExist':
          return found === undefined;
      }
    })
  );
}

export function isEmpty(selector: LabelSelector | null | undefined): boolean {
  return Object.keys(selector?.matchLabels ?? {}).length + (selector?.matchExpressions ?? []).length === 0;
}

/** @param namespace undefined when nothing is known of it: then only a selector that asks nothing of it can match */
export function enables({ podSelector, namespaceSelector }: EnablementSelector, pod: Labels, namespace: Labels | undefined): boolean {
  return matches(podSelector, pod) && (namespace === undefined ? isEmpty(namespaceSelector) : matches(namespaceSelector, namespace));
}

/** "pods with app=web, tier in (a, b) in namespaces with team" */
export function textOf({ podSelector, namespaceSelector }: EnablementSelector): string {
  return `${side('pods', podSelector)} in ${side('namespaces', namespaceSelector)}`;
}

function side(what: string, selector: LabelSelector | null | undefined): string {
  const equal = Object.entries(selector?.matchLabels ?? {}).map(([name, wanted]) => `${name}=${wanted}`);
  const others = (selector?.matchExpressions ?? []).map(({ key: name, operator, values }) => {
    switch (operator) {
      case 'In':
        return `${name} in (${(values ?? []).join(', ')})`;
      case 'NotIn':
        return `${name} not in (${(values ?? []).join(', ')})`;
      case 'Exists':
        return name;
      case 'DoesNotExist':
        return `no ${name}`;
    }
  });
  return isEmpty(selector) ? `all ${what}` : `${what} with ${[...equal, ...others].join(', ')}`;
}

function isKey(text: string): boolean {
  const parts = text.split('/');
  const [prefix = ''] = parts;
  if (parts.length > 2 || (parts.length === 2 && (prefix.length > 253 || !PREFIX.test(prefix)))) return false;
  return NAME.test(parts.at(-1) ?? '');
}

function fromYaml(text: string): unknown {
  try {
    return parseYaml(text);
  } catch {
    return text;
  }
}
