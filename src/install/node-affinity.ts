/** Whether a pod's nodeSelector and required node affinity let it run on a node, as the scheduler reads them. */
import type { KubeObject } from '../kubernetes/api.ts';
import { isObject } from './json.ts';

interface Requirement {
  key: string;
  operator: string;
  values?: string[] | null;
}

interface Term {
  matchExpressions?: Requirement[] | null;
  matchFields?: Requirement[] | null;
}

/** @param pod the pod's spec, as the API server holds it: it has checked what is in there */
export function runsOn(pod: Record<string, unknown>, node: KubeObject): boolean {
  const labels = node.metadata.labels ?? {};
  const wanted = (pod['nodeSelector'] ?? {}) as Record<string, string>;
  if (Object.entries(wanted).some(([key, value]) => labels[key] !== value)) return false;
  const terms = requiredTerms(pod);
  return terms === undefined || terms.some((term) => matches(term, labels, node.metadata.name));
}

/** undefined: nothing is required */
function requiredTerms(pod: Record<string, unknown>): Term[] | undefined {
  let at: unknown = pod;
  for (const key of ['affinity', 'nodeAffinity', 'requiredDuringSchedulingIgnoredDuringExecution']) at = isObject(at) ? at[key] : undefined;
  return isObject(at) ? ((at['nodeSelectorTerms'] ?? []) as Term[]) : undefined;
}

/** All of a term; a term that says nothing matches nothing. */
function matches(term: Term, labels: Record<string, string>, name: string): boolean {
  const expressions = term.matchExpressions ?? [];
  const fields = term.matchFields ?? [];
  if (expressions.length + fields.length === 0) return false;
  return (
    expressions.every((requirement) => holds(requirement, labels[requirement.key])) &&
    fields.every((requirement) => holds(requirement, requirement.key === 'metadata.name' ? name : undefined))
  );
}

function holds({ operator, values }: Requirement, value: string | undefined): boolean {
  const listed = value !== undefined && (values ?? []).includes(value);
  switch (operator) {
    case 'In':
      return listed;
    case 'NotIn':
      return !listed;
    case 'Exists':
      return value !== undefined;
    case 'DoesNotExist':
      return value === undefined;
    case 'Gt':
      return compare(value, values) > 0;
    case 'Lt':
      return compare(value, values) < 0;
    default:
      return false;
  }
}

/** Integers only; NaN, which is neither more nor less, for everything else. */
function compare(value: string | undefined, values: Requirement['values']): number {
  const [bound] = values ?? [];
  const integer = /^[+-]?\d+$/;
  return value !== undefined && bound !== undefined && integer.test(value) && integer.test(bound) ? Number(value) - Number(bound) : NaN;
}
