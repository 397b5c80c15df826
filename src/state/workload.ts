/** Workloads and services as the tunnel routes by them, whatever source they came from. */

export type TunnelProtocol = 'HBONE' | 'TCP';

export interface WorkloadId {
  namespace: string;
  name: string;
  serviceAccount: string;
}

export interface Workload extends WorkloadId {
  uid: string;
  node: string;
  trustDomain: string;
  /** canonical; empty until the workload has addresses */
  ips: readonly string[];
  /** HBONE: the peer is captured by the mesh and takes HBONE on 15008; TCP: plain */
  protocol: TunnelProtocol;
  /** only healthy ones are endpoints */
  healthy: boolean;
  /** the node's network is the workload's: its addresses are not its own */
  hostNetwork: boolean;
  /** spiffe://<trust domain>/ns/<namespace>/sa/<service account> */
  identity: string;
}

export interface Endpoint {
  workload: Workload;
  /** service port → port on the workload */
  ports: ReadonlyMap<number, number>;
}

export interface Service {
  namespace: string;
  name: string;
  hostname: string;
  /** canonical; empty for a headless service */
  vips: readonly string[];
  ports: ReadonlyMap<number, number>;
  endpoints: readonly Endpoint[];
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
