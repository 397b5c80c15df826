/** A Service of the control plane as the state has it. */
import {
  IPFamilies,
  LoadBalancing_HealthPolicy,
  LoadBalancing_Mode,
  LoadBalancing_Scope,
  type Service as WireService,
} from '../../proto/workload_pb.js';
import type { Service } from '../../state/workload.ts';
import type { Faults } from './faults.ts';
import { checkEnum, checkGateway, readNetworkAddress, readPorts } from './fields.ts';

export interface ReadService {
  service: Service;
  /** its address ranges of our network, which this version does not route by */
  ranges: string[];
}

/**
 * Addresses on other networks are not ours to answer for and are dropped. A service of mode PASSTHROUGH (its callers go where they
 * dialled) has none either: an address that no service answers on is passed through.
 * @returns undefined when there are faults
 */
export function readService(wire: WireService, network: string, faults: Faults): ReadService | undefined {
  if (wire.namespace === '') faults.add('namespace', wire.namespace, 'must not be empty');
  if (wire.hostname === '') faults.add('hostname', wire.hostname, 'must not be empty');
  const vips: string[] = [];
  const ranges: string[] = [];
  for (const [index, each] of wire.addresses.entries()) {
    const address = readNetworkAddress(faults, `addresses[${index}]`, each);
    if (address?.network !== network) continue;
    if (address.length !== undefined) ranges.push(`${address.ip}/${address.length}`);
    else if (!vips.includes(address.ip)) vips.push(address.ip);
  }
  const ports = readPorts(faults, 'ports', wire.ports);
  checkBalancing(wire, faults);
  // Visibility of tomorrow is not refused, as in ztunnel: nothing of it is used here.
  checkEnum(faults, 'ip_families', IPFamilies, wire.ipFamilies);
  if (wire.waypoint !== undefined) checkGateway(faults, 'waypoint', wire.waypoint);
  for (const [index, { destination }] of wire.weightedWaypoints.entries()) {
    const field = `weighted_waypoints[${index}].destination`;
    if (destination === undefined) faults.add(field, undefined, 'is missing');
    else checkGateway(faults, field, destination);
  }
  if (!faults.none) return undefined;

  const { namespace, name, hostname, canonical, subjectAltNames, loadBalancing } = wire;
  const passthrough = loadBalancing?.mode === LoadBalancing_Mode.PASSTHROUGH;
  const service = {
    key: `${namespace}/${hostname}`,
    namespace,
    name,
    hostname,
    vips: passthrough ? [] : vips,
    ports,
    allowUnhealthy: loadBalancing?.healthPolicy === LoadBalancing_HealthPolicy.ALLOW_ALL,
    canonical,
    subjectAltNames,
  };
  return { service, ranges: passthrough ? [] : ranges };
}

function checkBalancing({ loadBalancing }: WireService, faults: Faults): void {
  if (loadBalancing === undefined) return;
  checkEnum(faults, 'load_balancing.mode', LoadBalancing_Mode, loadBalancing.mode);
  checkEnum(faults, 'load_balancing.health_policy', LoadBalancing_HealthPolicy, loadBalancing.healthPolicy);
  for (const [index, scope] of loadBalancing.routingPreference.entries()) {
    const field = `load_balancing.routing_preference[${index}]`;
    if (scope === LoadBalancing_Scope.UNSPECIFIED_SCOPE) faults.add(field, scope, 'must say a scope');
    else checkEnum(faults, field, LoadBalancing_Scope, scope);
  }
}
