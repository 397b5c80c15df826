/**
 * The network between tunnels and control in a lab whose tunnels listen to a control plane: a bridge beside the fabric, so that what
 * passes between the nodes' pods stays apart from it.
 */
import type { LabPaths } from '../paths.ts';
import { fabricNetns } from './fabric.ts';
import { createNetns, ipBatch } from './netns.ts';

export const controlNetns = 'control';
const bridge = 'control0';
/** Counts nodes from 1, at most 250; `place` is 0 or 1. */
const tunnelAddress = (index: number, place: number): string => `172.31.${place}.${index}`;
const prefix = 23;
export const controlAddress = '172.31.0.254';

export async function buildControlNetwork(lab: LabPaths, nodes: readonly string[]): Promise<void> {
  await createNetns(lab.netns(controlNetns));
  await ipBatch(lab.netns(fabricNetns), [`link add ${bridge} type bridge mcast_snooping 0`, `link set ${bridge} up`]);
  await Promise.all([
    join(lab, lab.netns(controlNetns), 'control-port0', controlAddress),
    ...nodes.map((node, i) => join(lab, lab.node(node).tunnelNetns, `control-port${i + 1}`, tunnelAddress(i + 1, 0))),
  ]);
}

/** The node's second tunnel. @param index of the node, from 1 */
export async function joinControlNetwork(lab: LabPaths, netns: string, index: number): Promise<void> {
  await join(lab, netns, `control-second${index}`, tunnelAddress(index, 1));
}

async function join(lab: LabPaths, netns: string, port: string, address: string): Promise<void> {
  await ipBatch(lab.netns(fabricNetns), [
    `link add ${port} type veth peer name eth0 netns ${netns}`,
    `link set ${port} master ${bridge} up`,
  ]);
  await ipBatch(netns, ['link set eth0 up', `address add ${address}/${prefix} dev eth0`]);
}
