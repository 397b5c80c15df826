/**
 * Enrolled or not, and the sentence why. Pure, and exactly the rules of Istio's ambient mode, so that labels keep their meaning:
 * a pod with host network or sidecar is out whatever anybody asks for; then the selectors are asked; what they take in, an excluded
 * namespace and the pod's end take out again.
 */
import type { NamespaceRecord, PodRecord } from '../sources/source.ts';
import { enables, isEmpty, matches, textOf, type EnablementSelector } from './selectors.ts';

export const MODE_LABEL = 'istio.io/dataplane-mode';
export const SIDECAR_ANNOTATION = 'sidecar.istio.io/status';
/** State written by the agent, never intent: peers send HBONE exactly while it says "enabled". */
export const REDIRECTION_ANNOTATION = 'ambient.istio.io/redirection';

/** As istio-cni's: the pod's own label asks for it; or its namespace's does, and the pod does not say no. */
const DEFAULT_SELECTORS: readonly EnablementSelector[] = [
  { podSelector: { matchLabels: { [MODE_LABEL]: 'ambient' } } },
  {
    podSelector: { matchExpressions: [{ key: MODE_LABEL, operator: 'NotIn', values: ['none'] }] },
    namespaceSelector: { matchLabels: { [MODE_LABEL]: 'ambient' } },
  },
];

/** The default itself for a list that says the same, as charts do that spell it out: its reasons are then the default's. */
export function knownSelectors(selectors: readonly EnablementSelector[] = DEFAULT_SELECTORS): readonly EnablementSelector[] {
  const same = selectors.length === DEFAULT_SELECTORS.length && selectors.map(textOf).join() === DEFAULT_SELECTORS.map(textOf).join();
  return same ? DEFAULT_SELECTORS : selectors;
}

/** Whether an annotation says that the mesh has, or tried to have, this pod. Any other value is not ours to judge. */
export function isAnnotated({ annotations }: Pick<PodRecord, 'annotations'>): boolean {
  const value = Object.hasOwn(annotations, REDIRECTION_ANNOTATION) ? annotations[REDIRECTION_ANNOTATION] : undefined;
  return value === 'enabled' || value === 'pending';
}

export interface Decision {
  enrolled: boolean;
  reason: string;
}

export type PolicyPod = Pick<PodRecord, 'namespace' | 'labels' | 'annotations' | 'hostNetwork' | 'phase'>;

export interface EnrolmentRules {
  excludedNamespaces: ReadonlySet<string>;
  /** the first that matches enrols; none: nobody is enrolled */
  selectors: readonly EnablementSelector[];
}

/** @param namespace undefined when the source does not know it: then only the pod's own labels can enrol */
export function decide(pod: PolicyPod, namespace: NamespaceRecord | undefined, rules: EnrolmentRules): Decision {
  if (pod.hostNetwork) return out('host network: it has no network namespace of its own');
  if (Object.hasOwn(pod.annotations, SIDECAR_ANNOTATION)) return out(`annotation ${SIDECAR_ANNOTATION}: it has a sidecar`);
  const asked = rules.selectors === DEFAULT_SELECTORS ? byMode(pod, namespace) : bySelectors(pod, namespace, rules.selectors);
  if (!asked.enrolled) return asked;
  if (rules.excludedNamespaces.has(pod.namespace)) return out(`namespace ${pod.namespace} is excluded by configuration`);
  if (ended(pod)) return out(`phase ${pod.phase}: it has ended`);
  return asked;
}

/** What the default selectors say, in the words of the one label that they ask for. */
function byMode(pod: PolicyPod, namespace: NamespaceRecord | undefined): Decision {
  const own = label(pod.labels);
  if (own === 'ambient') return { enrolled: true, reason: `pod label ${MODE_LABEL}=ambient` };
  if (own === 'none') return out(`pod label ${MODE_LABEL}=none opts out`);

  const inherited = label(namespace?.labels ?? {});
  const unknownOwn = own === undefined ? '' : `; pod label ${MODE_LABEL}="${own}" is unknown and counts for nothing`;
  if (inherited === 'ambient') return { enrolled: true, reason: `namespace label ${MODE_LABEL}=ambient${unknownOwn}` };
  if (inherited === 'none') return out(`namespace label ${MODE_LABEL}=none${unknownOwn}`);
  if (inherited !== undefined) return out(`namespace label ${MODE_LABEL}="${inherited}" is unknown (known: ambient, none)${unknownOwn}`);
  if (namespace === undefined) return out(`namespace ${pod.namespace} is unknown to the source${unknownOwn}`);
  return out(`neither pod nor namespace has label ${MODE_LABEL}=ambient${unknownOwn}`);
}

function bySelectors(pod: PolicyPod, namespace: NamespaceRecord | undefined, selectors: readonly EnablementSelector[]): Decision {
  for (const [index, selector] of selectors.entries())
    if (enables(selector, pod.labels, namespace?.labels))
      return { enrolled: true, reason: `enablement selector ${index}: ${textOf(selector)}` };
  const unknown = namespace === undefined ? `; namespace ${pod.namespace} is unknown to the source` : '';
  return out(
    selectors.length === 0 ? 'there are no enablement selectors' : `none of the ${selectors.length} enablement selectors matches${unknown}`,
  );
}

/**
 * Whether a namespace enrols pods: what the plugin goes by while the agent is away. Some selector's namespace part asks for it; one that
 * asks nothing of namespaces counts when it asks nothing of pods either that a pod without labels does not have: what only labelled pods
 * ask for can be given to them when the agent is back.
 */
export function namespaceEnrols(namespace: NamespaceRecord, { excludedNamespaces, selectors }: EnrolmentRules): boolean {
  if (excludedNamespaces.has(namespace.name)) return false;
  return selectors.some(({ podSelector, namespaceSelector }) =>
    isEmpty(namespaceSelector) ? matches(podSelector, {}) : matches(namespaceSelector, namespace.labels),
  );
}

/** A pod that has ended gives its address back before it is deleted: it must leave the mesh at once. */
export function ended(pod: Pick<PodRecord, 'phase'>): boolean {
  return pod.phase === 'Succeeded' || pod.phase === 'Failed';
}

function label(labels: Record<string, string>): string | undefined {
  return Object.hasOwn(labels, MODE_LABEL) ? labels[MODE_LABEL] : undefined;
}

function out(reason: string): Decision {
  return { enrolled: false, reason };
}
