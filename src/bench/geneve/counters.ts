/** Proof that the path was taken: what rules and devices counted. */
import { must } from '../../lab/command.ts';
import { inNetns } from '../../lab/network/netns.ts';
import { chains, inbound, link, listenerPorts, outbound } from './plan.ts';
import { readCounters, type Chain, type RuleCounter } from './ruleset.ts';

export interface GeneveCounters {
  /** first packets of connections, as they came out of the pairs and were given to a listener */
  redirected: { outbound: number; inboundPlain: number; inboundHbone: number };
  /** packets that went on over the tunnel's link, without a wrapper, and were delivered there under others' addresses */
  continued: number;
  /** frames sent and received by the node's ends of the pairs, address resolution included */
  devices: { inbound: { sent: number; received: number }; outbound: { sent: number; received: number } };
}

export async function countersOf(nodeNetns: string, tunnelNetns: string, tunnelRules: readonly Chain[]): Promise<GeneveCounters> {
  const [rules, statistics] = await Promise.all([readCounters(tunnelNetns, tunnelRules), deviceStatistics(nodeNetns)]);
  const given = (port: number): number => packets(rules, `--on-port ${port} `);
  return {
    redirected: {
      outbound: given(listenerPorts.outbound),
      inboundPlain: given(listenerPorts.inboundPlain),
      inboundHbone: given(listenerPorts.inboundHbone),
    },
    continued: packets(rules, `-i ${link.tunnelDevice} `),
    devices: { inbound: statistics(inbound.device), outbound: statistics(outbound.device) },
  };
}

function packets(rules: readonly RuleCounter[], part: string): number {
  return rules
    .filter(({ chain, rule }) => chain === chains.tunnel && `${rule} `.includes(part))
    .reduce((sum, rule) => sum + rule.packets, 0);
}

async function deviceStatistics(netns: string): Promise<(device: string) => { sent: number; received: number }> {
  const links = JSON.parse(await must(inNetns(netns, ['ip', '-json', '-statistics', 'link', 'show']))) as {
    ifname: string;
    stats64: { rx: { packets: number }; tx: { packets: number } };
  }[];
  return (device) => {
    const stats = links.find(({ ifname }) => ifname === device)?.stats64;
    return { sent: stats?.tx.packets ?? 0, received: stats?.rx.packets ?? 0 };
  };
}
