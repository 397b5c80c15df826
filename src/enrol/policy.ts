/**
 * Enrolled or not, and the sentence why. Pure, and exactly the rules of Istio's ambient mode, so that labels keep their meaning:
 * what a pod *is* (host network, sidecar, ended) beats what anybody asks for; then the pod's own label, then its namespace's.
 */
import type { NamespaceRecord, PodRecord } from '../sources/source.ts';

export const MODE_LABEL = 'istio.io/dataplane-mode';
export const SIDECAR_ANNOTATION = 'sidecar.istio.io/status';
/** State written by the agent, never intent: peers send HBONE exactly while it says "enabled". */
export const REDIRECTION_ANNOTATION = 'ambient.istio.io/redirection';

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

/** @param namespace undefined when the source does not know it: then only the pod's own label can enrol */
export function decide(pod: PolicyPod, namespace: NamespaceRecord | undefined, excluded: ReadonlySet<string>): Decision {
  if (pod.hostNetwork) return out('host network: it has no network namespace of its own');
  if (Object.hasOwn(pod.annotations, SIDECAR_ANNOTATION)) return out(`annotation ${SIDECAR_ANNOTATION}: it has a sidecar`);
  if (excluded.has(pod.namespace)) return out(`namespace ${pod.namespace} is excluded by configuration`);
  if (ended(pod)) return out(`phase ${pod.phase}: it has ended`);

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

/** Whether a namespace enrols pods that say nothing themselves: what the plugin goes by while the agent is away. */
export function namespaceEnrols(namespace: NamespaceRecord, excluded: ReadonlySet<string>): boolean {
  return !excluded.has(namespace.name) && label(namespace.labels) === 'ambient';
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
