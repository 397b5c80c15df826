/** Pods and services of a source turned into workloads, services and endpoints. */
import type { MeshSnapshot, PodRecord, ServiceRecord } from '../sources/source.ts';
import { canonicalIp } from './address.ts';
import { StateSnapshot } from './snapshot.ts';
import { REDIRECTION_ANNOTATION, spiffeId, type Endpoint, type Service, type Workload } from './workload.ts';

/** Pods in a terminal phase are left out: their addresses may belong to somebody else by now. */
export function stateOfMesh(mesh: MeshSnapshot): StateSnapshot {
  const workloads = new Map<PodRecord, Workload>();
  const byNamespace = new Map<string, PodRecord[]>();
  for (const pod of mesh.pods.values()) {
    if (pod.phase === 'Succeeded' || pod.phase === 'Failed') continue;
    workloads.set(pod, workloadOf(pod, mesh.trustDomain));
    const neighbours = byNamespace.get(pod.namespace);
    if (neighbours === undefined) byNamespace.set(pod.namespace, [pod]);
    else neighbours.push(pod);
  }
  const services = [...mesh.services.values()].map((service) => serviceOf(service, byNamespace.get(service.namespace) ?? [], workloads));
  return new StateSnapshot(mesh.trustDomain, [...workloads.values()], services);
}

function workloadOf(pod: PodRecord, trustDomain: string): Workload {
  return {
    uid: pod.uid,
    namespace: pod.namespace,
    name: pod.name,
    serviceAccount: pod.serviceAccount,
    node: pod.node,
    trustDomain,
    ips: canonical(pod.ips),
    protocol: pod.annotations[REDIRECTION_ANNOTATION] === 'enabled' ? 'HBONE' : 'TCP',
    healthy: pod.phase === 'Running',
    hostNetwork: pod.hostNetwork,
    identity: spiffeId(trustDomain, pod.namespace, pod.serviceAccount),
  };
}

function serviceOf(record: ServiceRecord, pods: PodRecord[], workloads: Map<PodRecord, Workload>): Service {
  const ports = new Map(record.ports.map(({ port, targetPort }) => [port, targetPort]));
  const selector = Object.entries(record.selector);
  const endpoints: Endpoint[] = [];
  for (const pod of pods) {
    const workload = workloads.get(pod);
    // A service without selector has no endpoints of ours; an empty selector must not mean "every pod".
    if (workload === undefined || selector.length === 0 || !selector.every(([key, value]) => pod.labels[key] === value)) continue;
    endpoints.push({ workload, ports });
  }
  const { namespace, name, hostname } = record;
  return { namespace, name, hostname, vips: canonical(record.vips), ports, endpoints };
}

function canonical(ips: readonly string[]): string[] {
  return ips.map(canonicalIp).filter((ip) => ip !== undefined);
}
