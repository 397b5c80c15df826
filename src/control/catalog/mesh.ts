/** What all resources of a cluster have in common. */
export interface MeshNames {
  clusterId: string;
  /** "cluster.local" */
  clusterDomain: string;
  trustDomain: string;
  /** that all pods and services are on; empty: the default network */
  network: string;
}

/** xDS says nothing for the usual one. */
export function wireTrustDomain({ trustDomain }: MeshNames): string {
  return trustDomain === 'cluster.local' ? '' : trustDomain;
}

/** Name of a service in xDS: "namespace/hostname". */
export function serviceResourceName(mesh: MeshNames, service: { namespace: string; name: string }): string {
  return `${service.namespace}/${hostname(mesh, service)}`;
}

export function hostname(mesh: MeshNames, service: { namespace: string; name: string }): string {
  return `${service.name}.${service.namespace}.svc.${mesh.clusterDomain}`;
}

/** What a resource answers to on demand. */
export function alias(mesh: MeshNames, ip: string): string {
  return `${mesh.network}/${ip}`;
}
