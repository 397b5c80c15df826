/** What is not as it should be in a netns whose pod is enrolled. Only reads: repairing is the reconciliation's. */
import { podFlag, podState, wire } from '../../maps/index.ts';
import type { NetnsOp } from '../../sys/native.ts';
import { Netns } from '../../sys/netns.ts';
import type { PodTarget } from '../driver.ts';
import type { Datapath } from './join.ts';
import { listenersOf } from './listeners.ts';
import { inspectNetns, isOfPod, missingSettings } from './netns-settings.ts';
import { canonical } from './pod-entries.ts';
import { flagBits } from './pod-identity.ts';
import { podLinkState } from './pod-link.ts';

/**
 * @param own addresses that this process wrote into `own`; one too many there is a way past the tunnel
 * @param expected addresses that the netns must have
 * @throws CulvertError SYSTEM when the netns cannot be read
 */
export function faultsOf(
  path: Datapath,
  cookie: bigint,
  pod: PodTarget,
  own: ReadonlySet<string> | undefined,
  expected: readonly string[],
): string[] {
  const { maps, pins } = path;
  const entry = maps.pods.get(cookie);
  if (entry === undefined) return [`map pods does not have its netns ${cookie}`];
  const faults: string[] = [];
  if (entry.state !== podState.POD_ACTIVE) faults.push(`map pods has it in state ${entry.state}, not active`);
  const flags = entry.flags & ~podFlag.POD_NODE_SOURCE; // the driver's own
  if (flags !== flagBits(pod.flags)) faults.push(`map pods has flags ${flags} of it, they should be ${flagBits(pod.flags)}`);
  const identity = maps.identity.get(cookie);
  if (identity?.uid !== pod.uid)
    faults.push(`map identity names ${identity === undefined ? 'nobody' : `uid ${identity.uid}`} for its netns`);
  const link = podLinkState(pins, cookie);
  if (link !== 'live') faults.push(link === 'none' ? 'its sk_lookup link is not pinned' : 'its sk_lookup link is attached to nothing');

  const view = inspectNetns(Netns.adopt(pod.netnsFd, String(cookie)));
  for (const op of missingSettings(view)) faults.push(`in its netns ${settingName(op)} is missing`);
  const present = new Set(view.addresses.map(({ address }) => canonical(address)));
  for (const address of expected) if (!present.has(canonical(address))) faults.push(`its netns does not have address ${address}`);
  for (const addr of present) if (maps.own.get({ cookie, addr }) === undefined) faults.push(`map own lacks its address ${addr}`);
  for (const addr of own ?? []) if (!present.has(addr)) faults.push(`map own has ${addr}, which is not its address`);
  for (const { address } of view.addresses.filter(isOfPod)) {
    if (maps.podByAddr.get(canonical(address)) !== cookie) faults.push(`map pod_by_addr does not lead from ${address} to it`);
  }

  const listeners = listenersOf(maps, cookie);
  if (!listeners.some(({ port }) => port === wire.PORT_OUTBOUND))
    faults.push(`no listener of the tunnel on ${wire.PORT_OUTBOUND} is registered`);
  for (const { port, alive } of listeners) if (!alive) faults.push(`the tunnel's listener on ${port} is gone`);
  return faults;
}

/** "rule lookup of IPv4" */
function settingName(op: NetnsOp): string {
  switch (op.op) {
    case 'rule':
      return `rule ${op.action} of IPv${op.family}`;
    case 'route':
      return `the local route of IPv${op.family}`;
    case 'sysctl':
      return `${op.path.replaceAll('/', '.')} = ${op.value}`;
    default:
      return op.op;
  }
}
