/** Pods and services of a mesh file turned into workloads and services, as a control plane would tell of them. */
import { canonicalIp } from '../../state/address.ts';
import { REDIRECTION_ANNOTATION, spiffeId, type PortMap, type Service, type StateDelta, type Workload } from '../../state/workload.ts';
import type { MeshSnapshot, PodRecord, ServiceRecord } from '../source.ts';

interface Selecting {
  key: string;
  selector: [string, string][];
  ports: PortMap;
}

/**
 * Pods in a terminal phase are left out: their addresses may belong to somebody else by now.
 * @param network of the tunnel that reads the file: a file is of one network
 */
export function stateOfMesh(mesh: MeshSnapshot, network: string): Pick<StateDelta, 'workloads' | 'services' | 'policies'> {
  const services: Service[] = [];
  const selecting = new Map<string, Selecting[]>();
  for (const record of mesh.services.values()) {
    const service = serviceOf(record);
    services.push(service);
    const selector = Object.entries(record.selector);
    if (selector.length === 0) continue; // it has no endpoints of ours; an empty selector must not mean "every pod"
    const neighbours = selecting.get(record.namespace);
    const entry = { key: service.key, selector, ports: service.ports };
    if (neighbours === undefined) selecting.set(record.namespace, [entry]);
    else neighbours.push(entry);
  }
  const workloads = [...mesh.pods.values()]
    .filter(({ phase }) => phase !== 'Succeeded' && phase !== 'Failed')
    .map((pod) => workloadOf(pod, mesh.trustDomain, network, selecting.get(pod.namespace) ?? []));
  return { workloads, services, policies: [] };
}

function workloadOf(pod: PodRecord, trustDomain: string, network: string, selecting: Selecting[]): Workload {
  const chosen = selecting.filter(({ selector }) => selector.every(([key, value]) => pod.labels[key] === value));
  return {
    uid: pod.uid,
    namespace: pod.namespace,
    name: pod.name,
    serviceAccount: pod.serviceAccount,
    node: pod.node,
    network,
    clusterId: '',
    trustDomain,
    ips: canonical(pod.ips),
    protocol: pod.annotations[REDIRECTION_ANNOTATION] === 'enabled' ? 'HBONE' : 'TCP',
    healthy: pod.phase === 'Running',
    hostNetwork: pod.hostNetwork,
    identity: spiffeId(trustDomain, pod.namespace, pod.serviceAccount),
    services: new Map(chosen.map(({ key, ports }) => [key, ports])),
    policies: [],
    workloadName: pod.name,
    workloadType: 'pod',
    canonicalName: pod.name,
    canonicalRevision: '',
    locality: { region: '', zone: '', subzone: '' },
  };
}

function serviceOf({ namespace, name, hostname, vips, ports }: ServiceRecord): Service {
  return {
    key: `${namespace}/${hostname}`,
    namespace,
    name,
    hostname,
    vips: canonical(vips),
    ports: new Map(ports.map(({ port, targetPort }) => [port, targetPort])),
    allowUnhealthy: false,
    canonical: true,
    subjectAltNames: [],
  };
}

function canonical(ips: readonly string[]): string[] {
  return ips.map(canonicalIp).filter((ip) => ip !== undefined);
}
