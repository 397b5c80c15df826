/** Fields that several resources share: addresses, ports, enums, gateways. What cannot be read is added to the faults. */
import type { GatewayAddress, NetworkAddress, Port } from '../../proto/workload_pb.js';
import { canonicalIp } from '../../state/address.ts';
import type { PortMap } from '../../state/workload.ts';
import type { Faults } from './faults.ts';

const MAX_PORT = 65535;
const UNSPECIFIED = new Set(['0.0.0.0', '::']);

/** @param known the enum object; values it does not have are faults @returns whether it is known */
export function checkEnum(faults: Faults, field: string, known: Record<number, unknown>, value: number): boolean {
  if (Object.hasOwn(known, value)) return true;
  faults.add(field, value, 'unknown enum value');
  return false;
}

/** Canonical text of 4 or 16 bytes, IPv4-mapped ones as IPv4. Undefined, with a fault, for other lengths. */
export function readIp(faults: Faults, field: string, bytes: Uint8Array): string | undefined {
  if (bytes.length === 4) return bytes.join('.');
  if (bytes.length === 16) {
    const view = new DataView(bytes.buffer, bytes.byteOffset, 16);
    const groups = Array.from({ length: 8 }, (_, index) => view.getUint16(index * 2).toString(16));
    return canonicalIp(groups.join(':'));
  }
  faults.add(field, bytes, `${bytes.length} bytes, an address has 4 or 16`);
  return undefined;
}

/** An address that something can listen on. */
export function readHostIp(faults: Faults, field: string, bytes: Uint8Array): string | undefined {
  const ip = readIp(faults, field, bytes);
  if (ip === undefined || !UNSPECIFIED.has(ip)) return ip;
  faults.add(field, ip, 'is no address of anything');
  return undefined;
}

/** Length of a prefix in bits; undefined: the whole address. */
export function readPrefixLength(faults: Faults, field: string, address: Uint8Array, length: number | undefined): number | undefined {
  const bits = address.length * 8;
  if (length === undefined || length <= bits) return length === bits ? undefined : length;
  faults.add(field, length, `an address of this family has ${bits} bits`);
  return undefined;
}

/** @param ports the last of two with one service port counts, as in ztunnel */
export function readPorts(faults: Faults, field: string, ports: readonly Port[]): PortMap {
  const map = new Map<number, number>();
  for (const [index, { servicePort, targetPort }] of ports.entries()) {
    const at = `${field}[${index}]`;
    if (servicePort < 1 || servicePort > MAX_PORT) faults.add(`${at}.service_port`, servicePort, 'must be 1 to 65535');
    else if (targetPort > MAX_PORT) faults.add(`${at}.target_port`, targetPort, 'must be 0 (not said) to 65535');
    else map.set(servicePort, targetPort);
  }
  return map;
}

/** Gateways are not used yet; broken ones are refused all the same, as ztunnel does. */
export function checkGateway(faults: Faults, field: string, gateway: GatewayAddress): void {
  const { destination, hboneMtlsPort } = gateway;
  if (hboneMtlsPort > MAX_PORT) faults.add(`${field}.hbone_mtls_port`, hboneMtlsPort, 'must be 0 to 65535');
  if (destination.case === undefined) faults.add(field, undefined, 'neither hostname nor address');
  else if (destination.case === 'address') readIp(faults, `${field}.address.address`, destination.value.address);
}

export interface NetworkPrefix {
  network: string;
  ip: string;
  /** undefined: one address */
  length: number | undefined;
}

export function readNetworkAddress(faults: Faults, field: string, address: NetworkAddress): NetworkPrefix | undefined {
  const length = readPrefixLength(faults, `${field}.length`, address.address, address.length);
  const read = length === undefined ? readHostIp : readIp; // 0.0.0.0/0 is a range
  const ip = read(faults, `${field}.address`, address.address);
  return ip === undefined ? undefined : { network: address.network, ip, length };
}

/** "namespace/hostname", both there and without further slashes */
export function isServiceKey(key: string): boolean {
  return /^[^/]+\/[^/]+$/.test(key);
}
