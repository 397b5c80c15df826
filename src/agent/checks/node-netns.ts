/** Connections of the node's own processes to pods are probes: the agent must know which namespace is the node's. */
import { Netns } from '../../sys/netns.ts';
import { Fault } from './check.ts';

/** @param procRoot procfs of the node; undefined: any namespace may stand for the node's (a lab) */
export function lookAtNodeNetns(nodeNetns: string, procRoot: string | undefined): string {
  using netns = Netns.open(nodeNetns);
  if (procRoot === undefined) return nodeNetns;
  using first = Netns.open(`${procRoot}/1/ns/net`);
  if (netns.identity === first.identity) return `${nodeNetns} is the node's`;
  throw new Fault(
    `${nodeNetns} is not the namespace of the node's first process`,
    'leave nodeNetns at /proc/1/ns/net, and set hostPID: true in the pod',
  );
}
