/** Links, policy rules and routes of the layout. Routes through a device of ours go with the device. */
import { CulvertError } from '../../base/errors.ts';
import { must } from '../../lab/command.ts';
import { inNetns, ipBatch } from '../../lab/network/netns.ts';
import { inbound, link, marks, nodePriorities, outbound, tables, tunnelPriorities } from './plan.ts';
import { ipEach, type Step } from './step.ts';

/** The priority of the rule that looks up table main. */
const MAIN = 32_766;

export interface Ends {
  nodeNetns: string;
  tunnelNetns: string;
  /** of the node, towards its pods */
  nodeAddress: string;
}

/** The tunnel's pod network: a veth pair as the ptp plugin makes it. */
export function tunnelLink({ nodeNetns, tunnelNetns, nodeAddress }: Ends): Step {
  const { nodeDevice, tunnelDevice, address } = link;
  return {
    apply: async () => {
      await ipBatch(nodeNetns, [
        `link add ${nodeDevice} mtu ${link.mtu} type veth peer name ${tunnelDevice} mtu ${link.mtu} netns ${tunnelNetns}`,
        `address add ${nodeAddress}/32 dev ${nodeDevice}`,
        `link set ${nodeDevice} up`,
        `route add ${address}/32 dev ${nodeDevice} scope link`,
      ]);
      await ipBatch(tunnelNetns, [
        `address add ${address}/32 dev ${tunnelDevice}`,
        `link set ${tunnelDevice} up`,
        `route add ${nodeAddress}/32 dev ${tunnelDevice} scope link src ${address}`,
        `route add default via ${nodeAddress} dev ${tunnelDevice}`,
      ]);
    },
    revert: () => ipEach(nodeNetns, [`link delete ${nodeDevice}`]),
  };
}

export function nodeRouting({ nodeNetns }: Ends): Step {
  const direct = `${link.address}/32 dev ${link.nodeDevice} scope link`;
  return {
    apply: () =>
      ipBatch(nodeNetns, [
        ...Object.values(tables).map((table) => `route add table ${table} ${direct}`),
        `route add table ${tables.outbound} default via ${outbound.peerAddress} dev ${outbound.device}`,
        `route add table ${tables.proxy} default via ${link.address} dev ${link.nodeDevice} onlink`,
        `rule add priority ${nodePriorities.skip} fwmark ${marks.skip} goto ${MAIN}`,
        `rule add priority ${nodePriorities.outbound} fwmark ${marks.outbound} lookup ${tables.outbound}`,
        `rule add priority ${nodePriorities.proxyReturn} fwmark ${marks.proxyReturn} lookup ${tables.proxy}`,
        // Only the mesh's pods are in this table: for all other destinations the search goes on.
        `rule add priority ${nodePriorities.inbound} lookup ${tables.inbound}`,
      ]),
    revert: () =>
      ipEach(
        nodeNetns,
        Object.values(nodePriorities).map((priority) => `rule delete priority ${priority}`),
      ),
  };
}

export function tunnelRouting({ tunnelNetns, nodeAddress }: Ends): Step {
  const local = `local default dev lo table ${tables.inbound}`;
  return {
    apply: () =>
      ipBatch(tunnelNetns, [
        `rule add priority ${tunnelPriorities.tproxy} fwmark ${marks.tproxy} lookup ${tables.inbound}`,
        `rule add priority ${tunnelPriorities.originalSource} fwmark ${marks.originalSource} lookup ${tables.inbound}`,
        `route add ${local}`,
        // As the original had them, although no rule of 1.18 looks them up.
        `route add table ${tables.outbound} default via ${outbound.address} dev ${outbound.peerDevice}`,
        `route add table ${tables.proxy} default via ${inbound.address} dev ${inbound.peerDevice}`,
        ...[tables.outbound, tables.proxy].map((table) => `route add table ${table} ${nodeAddress}/32 dev ${link.tunnelDevice} scope link`),
      ]),
    revert: () =>
      ipEach(tunnelNetns, [
        ...Object.values(tunnelPriorities).map((priority) => `rule delete priority ${priority}`),
        `route delete ${local}`,
      ]),
  };
}

/** The address of the node that its pod's neighbours see, and the device that leads to the pod. @throws CulvertError LAB */
export async function nodeTowards(nodeNetns: string, pod: string): Promise<{ address: string; device: string }> {
  const [route] = await ipJson<{ dev?: string; prefsrc?: string; gateway?: string; type?: string }>(nodeNetns, ['route', 'get', pod]);
  if (route?.dev === undefined || route.prefsrc === undefined || route.gateway !== undefined || route.type === 'local')
    throw new CulvertError('LAB', `find the node of pod ${pod}: it is no pod of the node in ${nodeNetns}`);
  return { address: route.prefsrc, device: route.dev };
}

/** @throws CulvertError LAB naming what is already there: somebody else's, or a layout that was not closed */
export async function refuseTaken({ nodeNetns, tunnelNetns }: Pick<Ends, 'nodeNetns' | 'tunnelNetns'>): Promise<void> {
  const pairs = [inbound, outbound];
  await Promise.all([
    refuseRules(nodeNetns, Object.values(nodePriorities)),
    refuseRules(tunnelNetns, Object.values(tunnelPriorities)),
    refuseRoutes(nodeNetns),
    refuseRoutes(tunnelNetns),
    refuseDevices(nodeNetns, [link.nodeDevice, ...pairs.map(({ device }) => device)]),
    refuseDevices(tunnelNetns, [link.tunnelDevice, ...pairs.map(({ peerDevice }) => peerDevice)]),
  ]);
  const [first] = (await must(inNetns(tunnelNetns, ['ip', '-4', 'route', 'show', 'default']))).split('\n');
  if (first !== '') throw taken(tunnelNetns, `a default route: ${first ?? ''}`);
}

async function refuseRules(netns: string, priorities: readonly number[]): Promise<void> {
  const rules = await ipJson<{ priority: number }>(netns, ['rule', 'show']);
  const found = rules.find(({ priority }) => priorities.includes(priority));
  if (found !== undefined) throw taken(netns, `an ip rule of priority ${found.priority}`);
}

async function refuseRoutes(netns: string): Promise<void> {
  const routes = await ipJson<{ table?: string }>(netns, ['route', 'show', 'table', 'all']);
  const found = routes.find(({ table }) => (Object.values(tables) as number[]).includes(Number(table)));
  if (found !== undefined) throw taken(netns, `routes in table ${found.table ?? ''}`);
}

async function refuseDevices(netns: string, devices: readonly string[]): Promise<void> {
  const links = await ipJson<{ ifname: string }>(netns, ['link', 'show']);
  const found = links.find(({ ifname }) => devices.includes(ifname));
  if (found !== undefined) throw taken(netns, `a device ${found.ifname}`);
}

const taken = (netns: string, what: string): CulvertError => new CulvertError('LAB', `set up geneve: ${netns} already has ${what}`);

async function ipJson<T>(netns: string, command: string[]): Promise<T[]> {
  return JSON.parse(await must(inNetns(netns, ['ip', '-json', '-4', ...command]))) as T[];
}
