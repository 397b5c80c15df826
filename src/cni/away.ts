/**
 * What happens to a new pod while the agent does not answer. Pure: the enrolment snapshot and the policy go in, a verdict with
 * its sentence comes out. A wrong "pass" lets a pod of the mesh start unprotected; a wrong "fail" stops pods that never asked
 * for the mesh, the mesh's own among them, so that it could not come back.
 */
import type { EnrolmentFile, PluginConfig } from '../agent/api.ts';
import { isRecord, type PodArgs } from './spec.ts';

export interface AwayVerdict {
  pass: boolean;
  /** the sentence why */
  reason: string;
}

/** @param snapshot undefined when the file is missing or unreadable: nothing is known then */
export function decideAway(policy: PluginConfig['onAgentDown'], snapshot: EnrolmentFile | undefined, pod: PodArgs): AwayVerdict {
  const own = snapshot?.ownPods.some((known) => known.namespace === pod.namespace && pod.name.startsWith(known.namePrefix)) === true;
  if (own) return { pass: true, reason: 'the pod belongs to the mesh itself' };
  if (snapshot?.excludedNamespaces.includes(pod.namespace) === true)
    return { pass: true, reason: `namespace ${pod.namespace} is excluded from the mesh` };
  if (policy === 'open') return { pass: true, reason: 'onAgentDown is "open"' };
  if (policy === 'closed') return { pass: false, reason: 'onAgentDown is "closed"' };
  const namespace =
    snapshot !== undefined && Object.hasOwn(snapshot.namespaces, pod.namespace) ? snapshot.namespaces[pod.namespace] : undefined;
  if (namespace === undefined) return { pass: false, reason: `namespace ${pod.namespace} is not known to be outside the mesh` };
  if (namespace.enrolled) return { pass: false, reason: `namespace ${pod.namespace} is enrolled in the mesh` };
  return { pass: true, reason: `namespace ${pod.namespace} is not enrolled in the mesh` };
}

/** The snapshot, or undefined for anything that is not whole: a half-understood file must not let a pod pass. */
export function parseEnrolment(text: string): EnrolmentFile | undefined {
  let file: unknown;
  try {
    file = JSON.parse(text);
  } catch {
    return undefined;
  }
  if (!isRecord(file) || file['version'] !== 1) return undefined;
  const { excludedNamespaces, namespaces, ownPods } = file;
  const whole =
    Array.isArray(excludedNamespaces) &&
    excludedNamespaces.every((name) => typeof name === 'string') &&
    isRecord(namespaces) &&
    Object.values(namespaces).every((entry) => isRecord(entry) && typeof entry['enrolled'] === 'boolean') &&
    Array.isArray(ownPods) &&
    ownPods.every(
      (pod) => isRecord(pod) && typeof pod['namespace'] === 'string' && typeof pod['namePrefix'] === 'string' && pod['namePrefix'] !== '',
    );
  return whole ? (file as unknown as EnrolmentFile) : undefined;
}
