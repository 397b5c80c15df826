/** The wire between the nodes: a bridge in a namespace of its own, one veth pair per node, routes to each other's pods. */
import { must } from '../command.ts';
import type { LabPaths } from '../paths.ts';
import { fabricPrefix, nodeAddresses } from './addresses.ts';
import { createNetns, inNetns, ipBatch } from './netns.ts';

export const fabricNetns = 'fabric';
/** the device that sees all traffic between nodes */
export const fabricBridge = 'fabric0';

export async function buildFabric(lab: LabPaths, nodes: string[]): Promise<void> {
  const fabric = lab.netns(fabricNetns);
  await Promise.all([fabricNetns, ...nodes, ...nodes.map((node) => `${node}-ztunnel`)].map((name) => createNetns(lab.netns(name))));
  await ipBatch(fabric, [
    `link add ${fabricBridge} type bridge mcast_snooping 0`,
    `link set ${fabricBridge} up`,
    ...nodes.flatMap((node, i) => [
      `link add port${i + 1} type veth peer name eth0 netns ${lab.netns(node)}`,
      `link set port${i + 1} master ${fabricBridge} up`,
    ]),
  ]);
  await Promise.all(nodes.map((node, i) => configureNode(lab.netns(node), i + 1, nodes.length)));
}

async function configureNode(netns: string, index: number, count: number): Promise<void> {
  const own = nodeAddresses(index);
  const others = Array.from({ length: count }, (_, i) => i + 1).filter((other) => other !== index);
  await must(inNetns(netns, ['sh', '-ec', 'echo 1 > /proc/sys/net/ipv4/ip_forward; echo 1 > /proc/sys/net/ipv6/conf/all/forwarding']));
  await ipBatch(netns, [
    `link set eth0 up`,
    `address add ${own.v4}/${fabricPrefix.v4} dev eth0`,
    `address add ${own.v6}/${fabricPrefix.v6} dev eth0 nodad`,
    ...others
      .map(nodeAddresses)
      .flatMap((other) => [`route add ${other.podRange4} via ${other.v4}`, `route add ${other.podRange6} via ${other.v6}`]),
  ]);
}
