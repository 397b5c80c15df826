/** Names in Istio's telemetry: what a pod belongs to, told from its labels and its owner alone (Istio pkg/kube, pkg/kube/labels). */
import type { PodObject } from '../cluster.ts';

const NAME_LABELS = ['service.istio.io/canonical-name', 'app.kubernetes.io/name', 'app'];
const REVISION_LABELS = ['service.istio.io/canonical-revision', 'app.kubernetes.io/version', 'version'];
/** A CronJob's Job is called after the minute it was due. */
const CRON_JOB = /^(.+)-\d{8,10}$/s;

/** "web" for a pod of Deployment web, whose owner is ReplicaSet web-5d4f. */
export function workloadName(pod: PodObject): string {
  const { labels, owner, name } = pod;
  return labels['service.istio.io/workload-name'] ?? (owner === undefined ? name : ownerName(owner, labels, name));
}

function ownerName(owner: { kind: string; name: string }, labels: Record<string, string>, podName: string): string {
  switch (owner.kind) {
    case 'Node': // a static pod is nobody's
      return podName;
    case 'ReplicaSet': {
      const hash = [labels['pod-template-hash'], labels['rollouts-pod-template-hash']].find(
        (one) => one !== undefined && one !== '' && owner.name.endsWith(`-${one}`),
      );
      return hash === undefined ? owner.name : owner.name.slice(0, -hash.length - 1);
    }
    case 'ReplicationController': {
      const config = labels['deploymentconfig'] ?? '';
      return config === '' ? owner.name : config;
    }
    case 'Job':
      return CRON_JOB.exec(owner.name)?.[1] ?? owner.name;
    default:
      return owner.name;
  }
}

export function canonicalService(labels: Record<string, string>, workload: string): { name: string; revision: string } {
  return { name: firstOf(labels, NAME_LABELS) ?? workload, revision: firstOf(labels, REVISION_LABELS) ?? 'latest' };
}

function firstOf(labels: Record<string, string>, keys: readonly string[]): string | undefined {
  return keys.map((key) => labels[key]).find((value) => value !== undefined);
}
