/**
 * Resources as they came, made into state: all that can be read, and a fault for everything that cannot. Total: there are no bytes
 * that make it throw.
 */
import { fromBinary, type DescMessage, type MessageShape } from '@bufbuild/protobuf';
import { setImmediate } from 'node:timers/promises';
import { describe } from '../../base/errors.ts';
import type { Resource } from '../../proto/discovery_pb.js';
import { AuthorizationSchema } from '../../proto/security_pb.js';
import { AddressSchema } from '../../proto/workload_pb.js';
import { ADDRESS_TYPE, type AUTHORIZATION_TYPE } from '../../rpc/services.ts';
import type { Policy, Service, Workload } from '../../state/workload.ts';
import { Faults } from './faults.ts';
import { readPolicy } from './policy.ts';
import { readService } from './service.ts';
import { Shared } from './shared.ts';
import { readWorkload } from './workload.ts';

export type ResourceType = typeof ADDRESS_TYPE | typeof AUTHORIZATION_TYPE;

export type Converted = { name: string; version: string; aliases: readonly string[]; unused: string } & (
  { kind: 'workload'; value: Workload } | { kind: 'service'; value: Service } | { kind: 'policy'; value: Policy }
);

export interface Conversion {
  good: Converted[];
  rejected: { name: string; aliases: readonly string[]; faults: string[] }[];
}

/** How long the event loop may be kept from connections. */
const SLICE_MS = 8;
const CLOCK_EVERY = 32;

/** @returns undefined when `signal` aborted on the way */
export async function convert(
  resources: readonly Resource[],
  type: ResourceType,
  network: string,
  signal: AbortSignal,
): Promise<Conversion | undefined> {
  const conversion: Conversion = { good: [], rejected: [] };
  const reading = { type, network, shared: new Shared() };
  let sliceEnds = performance.now() + SLICE_MS;
  for (const [index, resource] of resources.entries()) {
    if (index % CLOCK_EVERY === CLOCK_EVERY - 1 && performance.now() >= sliceEnds) {
      await setImmediate();
      if (signal.aborted) return undefined;
      sliceEnds = performance.now() + SLICE_MS;
    }
    const faults = new Faults(resource.name === '' ? `resources[${index}]` : resource.name);
    const converted = convertOne(resource, reading, faults);
    if (converted === undefined) conversion.rejected.push({ name: resource.name, aliases: resource.aliases, faults: faults.list });
    else conversion.good.push(converted);
  }
  return conversion;
}

interface Reading {
  type: ResourceType;
  /** ours */
  network: string;
  shared: Shared;
}

/** @returns undefined when there are faults */
function convertOne(resource: Resource, reading: Reading, faults: Faults): Converted | undefined {
  try {
    if (resource.name === '') faults.add('name', '', 'must not be empty');
    const any = resource.resource;
    const { type } = reading;
    if (any === undefined) faults.add('resource', undefined, 'is missing');
    else if (any.typeUrl !== '' && any.typeUrl !== type) faults.add('resource.type_url', any.typeUrl, `must be ${type}`);
    else return type === ADDRESS_TYPE ? readAddress(resource, any.value, reading, faults) : readAuthorization(resource, any.value, faults);
  } catch (error) {
    faults.add('resource.value', undefined, `cannot be read: ${describe(error)}`);
  }
  return undefined;
}

function readAddress(resource: Resource, bytes: Uint8Array, { network, shared }: Reading, faults: Faults): Converted | undefined {
  const { type } = decode(AddressSchema, bytes);
  if (type.case === 'workload') {
    const workload = readWorkload(type.value, shared, faults);
    if (workload === undefined || !nameIs(workload.uid, resource, faults)) return undefined;
    return {
      ...given(resource, workload.uid),
      kind: 'workload',
      value: workload,
      unused: type.value.waypoint === undefined ? '' : 'waypoint',
    };
  }
  if (type.case === 'service') {
    const read = readService(type.value, network, faults);
    if (read === undefined || !nameIs(read.service.key, resource, faults)) return undefined;
    const { service, ranges } = read;
    const waypoint = type.value.waypoint !== undefined || type.value.weightedWaypoints.length > 0;
    const unused = [...(waypoint ? ['waypoint'] : []), ...ranges.map((range) => `address range ${range}`)].join(', ');
    return { ...given(resource, service.key), kind: 'service', value: service, unused };
  }
  faults.add('resource', undefined, 'neither workload nor service');
  return undefined;
}

/** What is kept are messages with bytes in them, and those would keep the whole response alive: it is read from a copy. */
function readAuthorization(resource: Resource, bytes: Uint8Array, faults: Faults): Converted | undefined {
  const policy = readPolicy(resource.name, decode(AuthorizationSchema, Uint8Array.from(bytes)), faults);
  return policy === undefined || !faults.none
    ? undefined
    : { ...given(resource, resource.name), kind: 'policy', value: policy, unused: '' };
}

function decode<D extends DescMessage>(schema: D, bytes: Uint8Array): MessageShape<D> {
  return fromBinary(schema, bytes, { readUnknownFields: false });
}

/** Removal is by resource name, and state by key: they must be the same. */
function nameIs(key: string, resource: Resource, faults: Faults): boolean {
  if (resource.name !== key) faults.add('name', resource.name, `must be "${key}"`);
  return faults.none;
}

/** @param name of equal text: one copy of it is kept */
function given({ version, aliases }: Resource, name: string): { name: string; version: string; aliases: readonly string[] } {
  return { name, version, aliases };
}
