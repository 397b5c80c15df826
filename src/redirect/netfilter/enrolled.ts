/** One enrolled netns in memory: its record, an open descriptor, and the stage that its rules were last brought to or found at. */
import { Netns } from '../../sys/netns.ts';
import type { DatapathState, DriverName, EnrolledNetns, PodFlags, PodTarget } from '../driver.ts';
import type { Site } from './backend.ts';
import type { NetnsRecord } from './records.ts';
import { isInterface, type Family, type Shape } from './rules.ts';
import { inspect } from './settings.ts';
import type { Watched } from './translations.ts';

const SCOPE_UNIVERSE = 0;
const MOST_ADDRESSES = 256;

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

function recordOf(pod: PodTarget, shape: Shape, addresses: readonly string[]): NetnsRecord {
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

/** Of a pod that joins, with a descriptor of our own. @throws CulvertError SYSTEM */
export function entryOf(pod: PodTarget): Enrolled {
  const netns = Netns.open(`/proc/self/fd/${pod.netnsFd}`);
  try {
    const view = inspect(netns.fd);
    const shape = shapeOf(pod.flags, pod.virtualInterfaces ?? [], pod.flags.dns);
    const record = recordOf(pod, shape, podAddresses(view));
    return { record, netns, families: view.families, stage: 'none', turn: Promise.resolve(), leaving: undefined };
  } catch (error) {
    netns.close();
    throw error;
  }
}

export function watchedOf(cookie: bigint, { netns, record, stage }: Enrolled): Watched {
  const { addresses, shape } = record;
  return { cookie, netnsFd: netns.fd, addresses, active: stage === 'active', ingressMode: shape.ingressMode };
}

/** By which the node reaches the pod. One that gives itself addresses without end must not fill the node's set. */
export function podAddresses({ addresses }: { addresses: { address: string; scope: number; device: string }[] }): string[] {
  return addresses
    .filter(({ scope, device }) => scope === SCOPE_UNIVERSE && device !== 'lo')
    .map(({ address }) => address)
    .slice(0, MOST_ADDRESSES);
}
