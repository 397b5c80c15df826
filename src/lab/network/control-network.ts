/**
 * The network between tunnels and control in a lab whose tunnels listen to a control plane: a bridge beside the fabric, so that what
 * passes between the nodes' pods stays apart from it.
 */
import type { LabPaths } from '../paths.ts';
import { fabricNetns } from './fabric.ts';
import { createNetns, ipBatch } from './netns.ts';

export const controlNetns = 'control';
const bridge = 'control0';
/** Counts nodes from 1, at most 250. */
const tunnelAddress = (index: number): string => `172.31.0.${index}`;
export const controlAddress = '172.31.0.254';

export async function buildControlNetwork(lab: LabPaths, nodes: readonly string[]): Promise<void> {
  const members = [
    { netns: lab.netns(controlNetns), address: controlAddress },
    ...nodes.map((node, i) => ({ netns: lab.node(node).tunnelNetns, address: tunnelAddress(i + 1) })),
  ];
  await createNetns(lab.netns(controlNetns));
  await ipBatch(lab.netns(fabricNetns), [
    `link add ${bridge} type bridge mcast_snooping 0`,
    `link set ${bridge} up`,
    ...members.flatMap(({ netns }, i) => [
      `link add control-port${i} type veth peer name eth0 netns ${netns}`,
      `link set control-port${i} master ${bridge} up`,
    ]),
  ]);
  await Promise.all(members.map(({ netns, address }) => ipBatch(netns, ['link set eth0 up', `address add ${address}/24 dev eth0`])));
}
