/** What Kubernetes says of pods. */
import type { KubeObject } from '../../../src/kubernetes/api.ts';
import { REDIRECTION_ANNOTATION } from '../../../src/enrol/policy.ts';
import { until } from '../kubernetes/until.ts';
import type { Cluster } from './cluster.ts';

interface Status {
  phase: string;
  podIP?: string;
  containerStatuses?: { containerID: string; restartCount: number; ready: boolean }[];
}

export function statusOf(pod: KubeObject): Status {
  return pod['status'] as Status;
}

/** @param labelSelector "app=web"; default all */
export async function podsOf(cluster: Cluster, namespace: string, labelSelector?: string): Promise<KubeObject[]> {
  const query = labelSelector === undefined ? {} : { labelSelector };
  return (await cluster.api.list(`/api/v1/namespaces/${namespace}/pods`, query)).items;
}

/** "enabled", "pending", or undefined. */
export async function redirectionOf(cluster: Cluster, namespace: string, pod: string): Promise<string | undefined> {
  return (await cluster.api.get(`/api/v1/namespaces/${namespace}/pods/${pod}`))?.metadata.annotations?.[REDIRECTION_ANNOTATION];
}

/** Sets or, with null, takes away a label of a namespace. */
export async function labelNamespace(cluster: Cluster, namespace: string, mode: string | null): Promise<void> {
  await cluster.api.patch(`/api/v1/namespaces/${namespace}`, { metadata: { labels: { 'istio.io/dataplane-mode': mode } } }, 'merge');
}

/** Waits until these pods are in the mesh, or out of it, by what everybody sees of it. */
export async function becomes(cluster: Cluster, namespace: string, pods: readonly string[], wanted: 'enabled' | undefined): Promise<void> {
  for (const pod of pods)
    await until(
      `pod ${namespace}/${pod} to have annotation ${wanted ?? 'none'}`,
      async () => (await redirectionOf(cluster, namespace, pod)) === wanted,
    );
}

/** Which containers run in each pod, and how often they were started again: the same text means that nothing was restarted. */
export async function lives(cluster: Cluster, namespace: string): Promise<Record<string, string>> {
  const entries = (await podsOf(cluster, namespace)).map((pod): [string, string] => {
    const containers = statusOf(pod).containerStatuses ?? [];
    return [pod.metadata.name, containers.map(({ containerID, restartCount }) => `${restartCount} ${containerID}`).join()];
  });
  return Object.fromEntries(entries);
}

interface Event {
  type: string;
  reason: string;
  message: string;
}

/** Of one pod. */
export async function eventsOf(cluster: Cluster, namespace: string, pod: string): Promise<Event[]> {
  const { items } = await cluster.api.list(`/api/v1/namespaces/${namespace}/events`, { fieldSelector: `involvedObject.name=${pod}` });
  return items.map(({ type, reason, message }) => ({ type, reason, message }) as Event);
}
