/**
 * Endpoints that are no pods, put into an EndpointSlice by hand or by some controller. Little is known of them: an address, perhaps
 * shared with others, which speaks plain TCP (Istio: pilot serviceregistry/ambient/workloads.go).
 */
import { create, toBinary } from '@bufbuild/protobuf';
import {
  AddressSchema,
  NetworkMode,
  PortListSchema,
  PortSchema,
  WorkloadSchema,
  WorkloadStatus,
  type PortList,
} from '../../proto/workload_pb.js';
import type { EndpointSliceObject, ServiceObject } from '../cluster.ts';
import { addressesOf } from './addresses.ts';
import { alias, serviceResourceName, wireTrustDomain, type MeshNames } from './mesh.ts';
import type { Rendered } from './rendered.ts';

export function renderEndpointSlice(
  mesh: MeshNames,
  slice: EndpointSliceObject,
  service: ServiceObject | undefined,
  faults: string[],
): Rendered[] {
  if (service === undefined || service.type === 'ExternalName' || slice.addressType === 'FQDN') return [];
  const serviceName = serviceResourceName(mesh, service);
  const ports = portsOf(slice, service);
  const rendered = new Map<string, Rendered>();
  for (const { addresses, ready, target } of slice.endpoints) {
    const [key] = addresses;
    if (target?.kind === 'Pod' || key === undefined) continue;
    const found = addressesOf(addresses, faults);
    if (found.length === 0) continue;
    const uid = `${mesh.clusterId}/discovery.k8s.io/EndpointSlice/${slice.namespace}/${slice.name}/${key}`;
    if (rendered.has(uid)) {
      faults.push(`${key} is in it twice`);
      continue;
    }
    const message = create(WorkloadSchema, {
      uid,
      name: slice.name,
      namespace: slice.namespace,
      addresses: found.map(({ bytes }) => bytes),
      network: mesh.network,
      clusterId: mesh.clusterId,
      trustDomain: wireTrustDomain(mesh),
      services: { [serviceName]: ports },
      status: ready ? WorkloadStatus.HEALTHY : WorkloadStatus.UNHEALTHY,
      networkMode: NetworkMode.HOST_NETWORK,
    });
    rendered.set(uid, {
      name: uid,
      message: toBinary(AddressSchema, create(AddressSchema, { type: { case: 'workload', value: message } })),
      aliases: found.map(({ ip }) => alias(mesh, ip)),
      services: [serviceName],
      claims: [],
    });
  }
  return [...rendered.values()];
}

/** A slice names its ports as the service does, and says what they are on the endpoints. */
function portsOf(slice: EndpointSliceObject, service: ServiceObject): PortList {
  const ports = slice.ports.flatMap(({ name, port: targetPort }) => {
    const port = service.ports.find((one) => one.name === name);
    return port === undefined ? [] : [create(PortSchema, { servicePort: port.port, targetPort })];
  });
  return create(PortListSchema, { ports });
}
