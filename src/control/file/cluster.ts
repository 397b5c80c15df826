/** A mesh file seen as a cluster, so that a lab has a control plane without an API server: the driver beside Kubernetes. */
import type { MeshSnapshot, PodRecord, ServiceRecord, Source } from '../../sources/source.ts';
import { objectKey, type Cluster, type ClusterObject, type ObjectChange, type PodObject, type ServiceObject } from '../cluster.ts';

/** Every snapshot is compared with the one before: only objects that differ are told. */
export function createFileCluster(source: Source): Cluster {
  return {
    kind: 'file',
    watch(events) {
      let known = new Map<string, Known>();
      let synced = false;
      return source.watch(
        (snapshot) => {
          const next = objectsOf(snapshot);
          const changes = difference(known, next);
          known = next;
          if (changes.length > 0) events.onChanges(changes);
          if (synced) return;
          synced = true;
          events.onSynced();
        },
        (error) => {
          events.onError(error);
        },
      );
    },
  };
}

interface Known {
  object: ClusterObject;
  text: string;
}

function objectsOf(mesh: MeshSnapshot): Map<string, Known> {
  const objects: ClusterObject[] = [];
  const nodes = new Set<string>();
  const accounts = new Map<string, { namespace: string; name: string }>();
  for (const { name, labels, annotations } of mesh.namespaces.values())
    objects.push({ kind: 'Namespace', name, labels, annotations, terminating: false });
  for (const pod of mesh.pods.values()) {
    nodes.add(pod.node);
    accounts.set(`${pod.namespace}/${pod.serviceAccount}`, { namespace: pod.namespace, name: pod.serviceAccount });
    objects.push(podObject(pod));
  }
  for (const name of nodes) objects.push({ kind: 'Node', name, labels: {} });
  for (const account of accounts.values()) objects.push({ kind: 'ServiceAccount', ...account });
  for (const service of mesh.services.values()) objects.push(serviceObject(service));
  return new Map(objects.map((object) => [`${object.kind} ${objectKey(object)}`, { object, text: JSON.stringify(object) }]));
}

function podObject(pod: PodRecord): PodObject {
  const { namespace, name, uid, node, serviceAccount, labels, annotations, ips, hostNetwork, phase } = pod;
  return {
    ...{ kind: 'Pod', namespace, name, uid, node, serviceAccount, labels, annotations, ips, hostNetwork, phase },
    // Nobody probes a lab's pods: one that runs is ready.
    ready: phase === 'Running',
    terminating: false,
    ports: [],
  };
}

function serviceObject(service: ServiceRecord): ServiceObject {
  const { namespace, name, selector, vips } = service;
  return {
    ...{ kind: 'Service', namespace, name, labels: {}, annotations: {}, selector, clusterIps: vips },
    headless: vips.length === 0,
    type: 'ClusterIP',
    ports: service.ports.map(({ port, targetPort }) => ({ name: `port-${port}`, port, targetPort })),
    publishNotReadyAddresses: false,
    ipFamilies: [...new Set(vips.map((vip) => (vip.includes(':') ? ('IPv6' as const) : ('IPv4' as const))))],
    internalTrafficPolicy: 'Cluster',
  };
}

function difference(before: ReadonlyMap<string, Known>, after: ReadonlyMap<string, Known>): ObjectChange[] {
  const changes: ObjectChange[] = [];
  for (const [key, { object }] of before)
    if (!after.has(key)) changes.push({ kind: object.kind, key: objectKey(object), object: undefined });
  for (const [key, { object, text }] of after)
    if (before.get(key)?.text !== text) changes.push({ kind: object.kind, key: objectKey(object), object });
  return changes;
}
