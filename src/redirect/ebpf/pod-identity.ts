/** State, flags and identity of a netns, between the maps and the driver's contract. */
import { podFlag, podState, type Identity, type Maps, type Pod } from '../../maps/index.ts';
import type { DatapathState, EnrolledNetns, PodFlags, PodTarget } from '../driver.ts';

const STATES: Record<number, DatapathState> = {
  [podState.POD_PREPARED]: 'prepared',
  [podState.POD_ACTIVE]: 'active',
  [podState.POD_DRAINING]: 'draining',
};

export function flagBits(flags: PodFlags): number {
  return (
    (flags.dns ? podFlag.POD_DNS : 0) | (flags.ingressMode ? podFlag.POD_INGRESS_MODE : 0) | (flags.markOnly ? podFlag.POD_MARK_ONLY : 0)
  );
}

export function identityOf(pod: PodTarget): Identity {
  // the path is a hint for people and for finding the netns after a restart; one that does not fit is better absent than cut
  const fits = Buffer.byteLength(pod.netnsPath) < 128;
  return { uid: pod.uid, namespace: pod.namespace, name: pod.name, netns: fits ? pod.netnsPath : '' };
}

export function enrolledNetns(cookie: bigint, pod: Pod, identity: Identity | undefined): EnrolledNetns {
  return {
    cookie,
    uid: identity?.uid ?? '',
    namespace: identity?.namespace ?? '',
    name: identity?.name ?? '',
    netnsPath: identity?.netns ?? '',
    state: STATES[pod.state] ?? 'none',
    flags: {
      dns: (pod.flags & podFlag.POD_DNS) !== 0,
      ingressMode: (pod.flags & podFlag.POD_INGRESS_MODE) !== 0,
      markOnly: (pod.flags & podFlag.POD_MARK_ONLY) !== 0,
    },
  };
}

export function allEnrolled(maps: Maps): EnrolledNetns[] {
  const identities = new Map(maps.identity.entries().map(({ key, value }) => [key, value]));
  return maps.pods.entries().map(({ key, value }) => enrolledNetns(key, value, identities.get(key)));
}
