/** One enrolled netns in memory: its record, an open descriptor, and the stage that its rules were last brought to or found at. */
import type { Netns } from '../../sys/netns.ts';
import type { DatapathState, DriverName, EnrolledNetns, PodFlags, PodTarget } from '../driver.ts';
import type { Site } from './backend.ts';
import type { NetnsRecord } from './records.ts';
import { isInterface, type Family, type Shape } from './rules.ts';

export interface Enrolled {
  record: NetnsRecord;
  /** ours: the caller's is valid during its call only */
  netns: Netns;
  families: readonly Family[];
  stage: DatapathState;
  /** one thing at a time */
  turn: Promise<unknown>;
  leaving: Promise<void> | undefined;
}

export function siteOf({ netns, families, record }: Enrolled): Site {
  return { netnsFd: netns.fd, families, notes: record.notes };
}

export function shapeOf(flags: PodFlags, interfaces: readonly string[], dns: boolean): Shape {
  return { dns, ingressMode: flags.ingressMode, virtualInterfaces: [...new Set(interfaces.filter(isInterface))] };
}

export function sameShape(a: Shape, b: Shape): boolean {
  return a.dns === b.dns && a.ingressMode === b.ingressMode && a.virtualInterfaces.join('/') === b.virtualInterfaces.join('/');
}

export function recordOf(pod: PodTarget, shape: Shape, addresses: readonly string[]): NetnsRecord {
  const { netnsCookie, uid, namespace, name, netnsPath, flags, virtualInterfaces = [] } = pod;
  return {
    cookie: String(netnsCookie),
    uid,
    namespace,
    name,
    netnsPath,
    flags,
    virtualInterfaces: [...virtualInterfaces],
    shape: { ...shape, virtualInterfaces: [...shape.virtualInterfaces] },
    addresses: [...addresses],
    notes: {},
  };
}

export function stateOf({ record, stage }: Enrolled, driver: DriverName): EnrolledNetns {
  const { cookie, uid, namespace, name, netnsPath, flags } = record;
  return { cookie: BigInt(cookie), uid, namespace, name, netnsPath, state: stage, flags, driver };
}
