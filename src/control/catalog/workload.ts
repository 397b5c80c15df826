/** A pod as xDS describes it; the same choices as Istio's (pilot serviceregistry/ambient/workloads.go). */
import { create, toBinary } from '@bufbuild/protobuf';
import {
  AddressSchema,
  LocalitySchema,
  NetworkMode,
  PortListSchema,
  PortSchema,
  TunnelProtocol,
  WorkloadSchema,
  WorkloadStatus,
  WorkloadType,
  type Locality,
  type PortList,
} from '../../proto/workload_pb.js';
import { REDIRECTION_ANNOTATION } from '../../state/workload.ts';
import type { NodeObject, PodObject, ServiceObject } from '../cluster.ts';
import { addressesOf } from './addresses.ts';
import { alias, wireTrustDomain, type MeshNames } from './mesh.ts';
import { canonicalService, workloadName } from './names.ts';
import type { Rendered } from './rendered.ts';

/** A list of protocols by which a pod takes tunnelled traffic by itself, without a ztunnel before it. */
const TUNNEL_LABEL = 'networking.istio.io/tunnel';

export interface PodSurroundings {
  node: NodeObject | undefined;
  /** that the pod is an endpoint of, by their xDS name; sorted, for the encoding to be the same everywhere */
  services: readonly { name: string; service: ServiceObject }[];
  /** names of the policies that select it, sorted */
  policies: readonly string[];
}

/** Done for good: what it may still have of an address is about to be another pod's. */
export function isTerminal(pod: PodObject): boolean {
  return pod.phase === 'Succeeded' || pod.phase === 'Failed';
}

/** @returns undefined for a pod that nobody can connect to: done, or without an address */
export function renderPod(mesh: MeshNames, pod: PodObject, around: PodSurroundings, faults: string[]): Rendered | undefined {
  if (isTerminal(pod)) return undefined;
  const addresses = addressesOf(pod.ips, faults);
  if (addresses.length === 0) return undefined;
  const workload = workloadName(pod);
  const canonical = canonicalService(pod.labels, workload);
  const nativeTunnel = (pod.labels[TUNNEL_LABEL] ?? '').split(',').includes('http');
  const captured = pod.annotations[REDIRECTION_ANNOTATION] === 'enabled';
  const locality = localityOf(around.node);
  const message = create(WorkloadSchema, {
    uid: `${mesh.clusterId}//Pod/${pod.namespace}/${pod.name}`,
    name: pod.name,
    namespace: pod.namespace,
    addresses: addresses.map(({ bytes }) => bytes),
    network: mesh.network,
    clusterId: mesh.clusterId,
    trustDomain: wireTrustDomain(mesh),
    serviceAccount: pod.serviceAccount,
    node: pod.node,
    tunnelProtocol: captured || nativeTunnel ? TunnelProtocol.HBONE : TunnelProtocol.NONE,
    nativeTunnel,
    networkMode: pod.hostNetwork ? NetworkMode.HOST_NETWORK : NetworkMode.STANDARD,
    workloadName: workload,
    workloadType: WorkloadType.POD,
    canonicalName: canonical.name,
    canonicalRevision: canonical.revision,
    status: pod.ready && !pod.terminating ? WorkloadStatus.HEALTHY : WorkloadStatus.UNHEALTHY,
    services: Object.fromEntries(around.services.map(({ name, service }) => [name, portsOn(pod, service)])),
    authorizationPolicies: [...around.policies],
    ...(locality === undefined ? {} : { locality }),
  });
  const aliases = addresses.map(({ ip }) => alias(mesh, ip));
  return {
    name: message.uid,
    message: toBinary(AddressSchema, create(AddressSchema, { type: { case: 'workload', value: message } })),
    aliases,
    node: pod.node,
    services: around.services.map(({ name }) => name),
    claims: pod.hostNetwork ? [] : aliases,
  };
}

/** A port named by a service that no container of this pod has is left out: the pod does not serve it. */
function portsOn(pod: PodObject, service: ServiceObject): PortList {
  const ports = service.ports.flatMap(({ port, targetPort }) => {
    const target = typeof targetPort === 'number' ? targetPort : pod.ports.find(({ name }) => name === targetPort)?.port;
    return target === undefined ? [] : [create(PortSchema, { servicePort: port, targetPort: target })];
  });
  return create(PortListSchema, { ports });
}

function localityOf(node: NodeObject | undefined): Locality | undefined {
  const region = node?.labels['topology.kubernetes.io/region'] ?? '';
  const zone = node?.labels['topology.kubernetes.io/zone'] ?? '';
  const subzone = node?.labels['topology.istio.io/subzone'] ?? '';
  return region === '' && zone === '' && subzone === '' ? undefined : create(LocalitySchema, { region, zone, subzone });
}

/** The labels of a node that its pods' records depend on, as one text. */
export function localityText(node: NodeObject | undefined): string {
  const { region = '', zone = '', subzone = '' } = localityOf(node) ?? {};
  return JSON.stringify([region, zone, subzone]);
}
