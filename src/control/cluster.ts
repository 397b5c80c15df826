/**
 * What control knows of a cluster: small records, only the fields it uses, whatever driver brought them (the Kubernetes API, or a
 * mesh file). The driver behind it lists and watches; after a gap it says itself what is gone.
 */

export interface PodObject {
  kind: 'Pod';
  namespace: string;
  name: string;
  uid: string;
  /** empty until scheduled */
  node: string;
  /** empty: none, as of a node's static pod */
  serviceAccount: string;
  labels: Record<string, string>;
  annotations: Record<string, string>;
  ips: string[];
  hostNetwork: boolean;
  phase: 'Pending' | 'Running' | 'Succeeded' | 'Failed' | 'Unknown';
  /** condition Ready is True */
  ready: boolean;
  /** has a deletion timestamp */
  terminating: boolean;
  /** named container ports, TCP */
  ports: { name: string; port: number }[];
  /** the controlling owner, "ReplicaSet" "web-5d4f" */
  owner?: { kind: string; name: string };
}

export interface NamespaceObject {
  kind: 'Namespace';
  name: string;
  labels: Record<string, string>;
  annotations: Record<string, string>;
  terminating: boolean;
}

export interface ServicePort {
  /** empty when the service has one port */
  name: string;
  port: number;
  /** number, or the name of a container's port */
  targetPort: number | string;
  appProtocol?: string;
}

export interface ServiceObject {
  kind: 'Service';
  namespace: string;
  name: string;
  labels: Record<string, string>;
  annotations: Record<string, string>;
  /** empty: none, its endpoints come from EndpointSlices only */
  selector: Record<string, string>;
  /** without "None" */
  clusterIps: string[];
  headless: boolean;
  type: 'ClusterIP' | 'NodePort' | 'LoadBalancer' | 'ExternalName';
  /** TCP only */
  ports: ServicePort[];
  publishNotReadyAddresses: boolean;
  ipFamilies: ('IPv4' | 'IPv6')[];
  trafficDistribution?: string;
  internalTrafficPolicy: 'Cluster' | 'Local';
}

export interface EndpointSliceObject {
  kind: 'EndpointSlice';
  namespace: string;
  name: string;
  /** from label kubernetes.io/service-name; empty: of no service */
  service: string;
  addressType: 'IPv4' | 'IPv6' | 'FQDN';
  /** TCP only */
  ports: { name: string; port: number }[];
  endpoints: {
    addresses: string[];
    ready: boolean;
    node?: string;
    zone?: string;
    /** "Pod" and its name when a pod is behind it */
    target?: { kind: string; namespace: string; name: string; uid: string };
  }[];
}

export interface ServiceAccountObject {
  kind: 'ServiceAccount';
  namespace: string;
  name: string;
}

export interface NodeObject {
  kind: 'Node';
  name: string;
  labels: Record<string, string>;
}

/** AuthorizationPolicy or PeerAuthentication of security.istio.io, any served version, `spec` as it came. */
export interface PolicyObject {
  kind: 'AuthorizationPolicy' | 'PeerAuthentication';
  namespace: string;
  name: string;
  uid: string;
  generation: number;
  /** ms since epoch: the oldest PeerAuthentication of a namespace counts */
  created: number;
  annotations: Record<string, string>;
  spec: unknown;
}

export type ClusterObject =
  PodObject | NamespaceObject | ServiceObject | EndpointSliceObject | ServiceAccountObject | NodeObject | PolicyObject;

export type ObjectKind = ClusterObject['kind'];

/** "namespace/name", or "name" for kinds without namespace */
export function objectKey(object: ClusterObject): string {
  return 'namespace' in object ? `${object.namespace}/${object.name}` : object.name;
}

export interface ObjectChange {
  kind: ObjectKind;
  key: string;
  /** undefined: gone */
  object: ClusterObject | undefined;
}

export interface ClusterEvents {
  /** In the order of the driver; a batch is what arrived at once. */
  onChanges(changes: readonly ObjectChange[]): void;
  /** Once, after every kind was listed and delivered. */
  onSynced(): void;
  /** A fault that people should hear of; the driver goes on by itself. */
  onError(error: Error): void;
}

export interface Cluster {
  readonly kind: 'kubernetes' | 'file';
  watch(events: ClusterEvents): { close(): void };
}
