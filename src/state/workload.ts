/** Workloads, services and policies as the tunnel uses them, whatever source they came from. */
import type { Authorization } from '../proto/security_pb.js';

export type TunnelProtocol = 'HBONE' | 'TCP';

export interface WorkloadId {
  namespace: string;
  name: string;
  serviceAccount: string;
}

export interface Locality {
  region: string;
  zone: string;
  subzone: string;
}

/** Service port → port on the workload; 0 when only the service says which. */
export type PortMap = ReadonlyMap<number, number>;

export interface Workload extends WorkloadId {
  /** key: of a source's own making (pod UID in files, "cluster//Pod/namespace/name" in xDS) */
  uid: string;
  node: string;
  /** empty: the default network. Addresses on other networks are not ours to dial */
  network: string;
  clusterId: string;
  trustDomain: string;
  /** canonical; empty until the workload has addresses */
  ips: readonly string[];
  /** HBONE: the peer is captured by the mesh and takes HBONE on 15008; TCP: plain */
  protocol: TunnelProtocol;
  /** only healthy ones are endpoints, unless the service says otherwise */
  healthy: boolean;
  /** the node's network is the workload's: its addresses are not its own */
  hostNetwork: boolean;
  /** spiffe://<trust domain>/ns/<namespace>/sa/<service account> */
  identity: string;
  /** the services that it is an endpoint of, by their key */
  services: ReadonlyMap<string, PortMap>;
  /** keys of the policies of scope WORKLOAD_SELECTOR that select it */
  policies: readonly string[];
  /** of its owner, "web" for a pod of Deployment web */
  workloadName: string;
  workloadType: 'deployment' | 'cronjob' | 'pod' | 'job';
  canonicalName: string;
  canonicalRevision: string;
  locality: Locality;
}

export interface Service {
  /** "namespace/hostname" */
  key: string;
  namespace: string;
  name: string;
  hostname: string;
  /** canonical, of our own network only; empty for a headless service */
  vips: readonly string[];
  ports: PortMap;
  /** also workloads that are not healthy are endpoints (publishNotReadyAddresses) */
  allowUnhealthy: boolean;
  /** wins over others with the same address: a Kubernetes Service over what only names the same host */
  canonical: boolean;
  /** further identities that its endpoints may show */
  subjectAltNames: readonly string[];
}

/** A workload behind a service. Derived by the state from `Workload.services`, also for services that are not known yet. */
export interface Endpoint {
  workload: Workload;
  ports: PortMap;
}

export interface Policy {
  /** "namespace/name" */
  key: string;
  authorization: Authorization;
}

/** What changed at once. A key is in one list only. */
export interface StateDelta {
  workloads: readonly Workload[];
  services: readonly Service[];
  policies: readonly Policy[];
  /** keys: `Workload.uid`, `Service.key`, `Policy.key`; unknown ones are ignored */
  removed: { workloads: readonly string[]; services: readonly string[]; policies: readonly string[] };
}

/** The annotation by which the mesh knows that a pod is captured. Written last when it joins, removed first when it leaves. */
export const REDIRECTION_ANNOTATION = 'ambient.istio.io/redirection';

export function spiffeId(trustDomain: string, namespace: string, serviceAccount: string): string {
  return `spiffe://${trustDomain}/ns/${namespace}/sa/${serviceAccount}`;
}

/** "namespace/name" */
export function qualifiedName(object: { namespace: string; name: string }): string {
  return `${object.namespace}/${object.name}`;
}
