/** A Workload of the control plane as the state has it. Rules and defaults are ztunnel's, but nothing unreadable passes silently. */
import {
  ApplicationTunnel_Protocol,
  NetworkMode,
  TunnelProtocol,
  WorkloadStatus,
  WorkloadType,
  type Workload as WireWorkload,
} from '../../proto/workload_pb.js';
import { spiffeId, type Locality, type PortMap, type Workload } from '../../state/workload.ts';
import type { Faults } from './faults.ts';
import { checkEnum, checkGateway, isServiceKey, readHostIp, readPorts } from './fields.ts';
import type { Shared } from './shared.ts';

const DEFAULT_TRUST_DOMAIN = 'cluster.local';
const DEFAULT_SERVICE_ACCOUNT = 'default';
const DEFAULT_CLUSTER = 'Kubernetes';

const NOWHERE: Locality = { region: '', zone: '', subzone: '' };

/** Only a label in logs and metrics, so a type of tomorrow is not refused; ztunnel reads it as the first one too. */
const TYPES: Record<number, Workload['workloadType']> = {
  [WorkloadType.CRONJOB]: 'cronjob',
  [WorkloadType.POD]: 'pod',
  [WorkloadType.JOB]: 'job',
};

/**
 * A workload without address is kept: the pod is known by its name and node, and has a certificate fetched, before it has an
 * address. One behind a hostname (to be resolved) stays without address as well.
 * @returns undefined when there are faults
 */
export function readWorkload(wire: WireWorkload, shared: Shared, faults: Faults): Workload | undefined {
  if (wire.uid === '') faults.add('uid', wire.uid, 'must not be empty');
  if (wire.namespace === '') faults.add('namespace', wire.namespace, 'must not be empty');
  const ips: string[] = [];
  for (const [index, bytes] of wire.addresses.entries()) {
    const ip = readHostIp(faults, `addresses[${index}]`, bytes);
    if (ip !== undefined && !ips.includes(ip)) ips.push(ip);
  }
  const services = new Map<string, PortMap>();
  for (const [key, list] of Object.entries(wire.services)) {
    if (isServiceKey(key)) services.set(shared.text(key), shared.ports(readPorts(faults, `services["${key}"].ports`, list.ports)));
    else faults.add('services', key, 'key must be "namespace/hostname"');
  }
  checkEnums(wire, faults);
  if (wire.waypoint !== undefined) checkGateway(faults, 'waypoint', wire.waypoint);
  if (wire.networkGateway !== undefined) checkGateway(faults, 'network_gateway', wire.networkGateway);
  if (!faults.none) return undefined;

  const trustDomain = shared.text(wire.trustDomain || DEFAULT_TRUST_DOMAIN);
  const namespace = shared.text(wire.namespace);
  const serviceAccount = shared.text(wire.serviceAccount || DEFAULT_SERVICE_ACCOUNT);
  const { locality } = wire;
  return {
    uid: wire.uid,
    namespace,
    name: wire.name,
    serviceAccount,
    node: shared.text(wire.node),
    network: shared.text(wire.network),
    clusterId: shared.text(wire.clusterId || DEFAULT_CLUSTER),
    trustDomain,
    ips,
    protocol: wire.tunnelProtocol === TunnelProtocol.HBONE ? 'HBONE' : 'TCP',
    healthy: wire.status === WorkloadStatus.HEALTHY,
    hostNetwork: wire.networkMode === NetworkMode.HOST_NETWORK,
    identity: shared.text(spiffeId(trustDomain, namespace, serviceAccount)),
    services,
    policies: wire.authorizationPolicies.map((key) => shared.text(key)),
    workloadName: shared.text(wire.workloadName),
    workloadType: TYPES[wire.workloadType] ?? 'deployment',
    canonicalName: shared.text(wire.canonicalName),
    canonicalRevision: shared.text(wire.canonicalRevision),
    locality: locality === undefined ? NOWHERE : readLocality(locality, shared),
  };
}

function readLocality({ region, zone, subzone }: Locality, shared: Shared): Locality {
  return { region: shared.text(region), zone: shared.text(zone), subzone: shared.text(subzone) };
}

function checkEnums(wire: WireWorkload, faults: Faults): void {
  checkEnum(faults, 'tunnel_protocol', TunnelProtocol, wire.tunnelProtocol);
  if (wire.tunnelProtocol === TunnelProtocol.LEGACY_ISTIO_MTLS) {
    faults.add('tunnel_protocol', 'LEGACY_ISTIO_MTLS', 'is not supported');
  }
  checkEnum(faults, 'status', WorkloadStatus, wire.status);
  checkEnum(faults, 'network_mode', NetworkMode, wire.networkMode);
  const tunnel = wire.applicationTunnel;
  if (tunnel !== undefined) checkEnum(faults, 'application_tunnel.protocol', ApplicationTunnel_Protocol, tunnel.protocol);
}
