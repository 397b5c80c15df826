/** A Kubernetes Service as xDS describes it; the same choices as Istio's (pilot serviceregistry/ambient/services.go). */
import { create, toBinary } from '@bufbuild/protobuf';
import {
  AddressSchema,
  IPFamilies,
  LoadBalancing_HealthPolicy as HealthPolicy,
  LoadBalancing_Mode as Mode,
  LoadBalancing_Scope as Scope,
  LoadBalancingSchema,
  NetworkAddressSchema,
  PortSchema,
  ServiceSchema,
  type LoadBalancing,
} from '../../proto/workload_pb.js';
import type { NamespaceObject, ServiceObject } from '../cluster.ts';
import { addressesOf } from './addresses.ts';
import { appProtocolOf } from './app-protocol.ts';
import { alias, hostname, serviceResourceName, type MeshNames } from './mesh.ts';
import type { Rendered } from './rendered.ts';

const DISTRIBUTION_ANNOTATION = 'networking.istio.io/traffic-distribution';

/** @returns undefined for a name that DNS resolves elsewhere (ExternalName), which is no service of the mesh */
export function renderService(
  mesh: MeshNames,
  service: ServiceObject,
  namespace: NamespaceObject | undefined,
  faults: string[],
): Rendered | undefined {
  if (service.type === 'ExternalName') return undefined;
  const vips = addressesOf(service.clusterIps, faults);
  const loadBalancing = loadBalancingOf(service, namespace, faults);
  const message = create(ServiceSchema, {
    name: service.name,
    namespace: service.namespace,
    hostname: hostname(mesh, service),
    addresses: vips.map(({ bytes }) => create(NetworkAddressSchema, { network: mesh.network, address: bytes })),
    ports: service.ports.map((port) =>
      create(PortSchema, {
        servicePort: port.port,
        // A name stands for a different port on each pod: only the workloads say which.
        targetPort: typeof port.targetPort === 'number' ? port.targetPort : 0,
        appProtocol: appProtocolOf(port),
      }),
    ),
    ...(loadBalancing === undefined ? {} : { loadBalancing }),
    ipFamilies: ipFamiliesOf(service),
    canonical: true,
  });
  const aliases = vips.map(({ ip }) => alias(mesh, ip));
  return {
    name: serviceResourceName(mesh, service),
    message: toBinary(AddressSchema, create(AddressSchema, { type: { case: 'service', value: message } })),
    aliases,
    claims: aliases,
  };
}

function loadBalancingOf(service: ServiceObject, namespace: NamespaceObject | undefined, faults: string[]): LoadBalancing | undefined {
  const healthPolicy = service.publishNotReadyAddresses ? HealthPolicy.ALLOW_ALL : HealthPolicy.ONLY_HEALTHY;
  const preference =
    service.internalTrafficPolicy === 'Local'
      ? { mode: Mode.STRICT, routingPreference: [Scope.NODE] }
      : distributionOf(service, namespace, faults);
  if (preference === undefined && !service.publishNotReadyAddresses) return undefined;
  return create(LoadBalancingSchema, { ...preference, healthPolicy });
}

const ZONE = { mode: Mode.FAILOVER, routingPreference: [Scope.NETWORK, Scope.REGION, Scope.ZONE] };
const NODE = { mode: Mode.FAILOVER, routingPreference: [Scope.NETWORK, Scope.REGION, Scope.ZONE, Scope.SUBZONE, Scope.NODE] };
const DISTRIBUTIONS = new Map([
  ['preferclose', ZONE],
  ['prefersamezone', ZONE],
  ['prefersamenode', NODE],
]);

/** The field wins over the service's annotation, that over the namespace's. */
function distributionOf(service: ServiceObject, namespace: NamespaceObject | undefined, faults: string[]): typeof ZONE | undefined {
  const field = DISTRIBUTIONS.get((service.trafficDistribution ?? '').toLowerCase());
  if (field !== undefined) return field;
  const own = service.annotations[DISTRIBUTION_ANNOTATION] ?? '';
  const text = own === '' ? (namespace?.annotations[DISTRIBUTION_ANNOTATION] ?? '') : own;
  const found = DISTRIBUTIONS.get(text.toLowerCase());
  if (found === undefined && text !== '') faults.push(`traffic distribution ${JSON.stringify(text)} is unknown`);
  return found;
}

function ipFamiliesOf({ ipFamilies }: ServiceObject): IPFamilies {
  if (ipFamilies.length === 2) return IPFamilies.DUAL;
  const [only] = ipFamilies;
  return only === undefined ? IPFamilies.AUTOMATIC : only === 'IPv4' ? IPFamilies.IPV4_ONLY : IPFamilies.IPV6_ONLY;
}
