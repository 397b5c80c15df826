/** What the node's iptables decide: which packets go to the tunnel, which came from it, and which are left alone. */
import { chains, inbound, link, marks, maskOf, outbound, podSet, tunnelUdpPort } from './plan.ts';
import type { Chain } from './ruleset.ts';

const has = (mark: string): string => `-m mark --mark ${mark}`;
const connectionHas = (mark: string): string => `-m connmark --mark ${mark}`;
const set = (mark: string): string => `-j MARK --set-mark ${mark}`;
const remember = (mark: string): string => `${has(mark)} -j CONNMARK --save-mark --nfmask ${maskOf(mark)} --ctmask ${maskOf(mark)}`;

/** The rule whose packets are the first ones of redirected outbound connections. */
export const outboundRule = `-p tcp -m set --match-set ${podSet} src ${set(marks.outbound)}`;
/** The rule whose packets answer what the tunnel sent under a pod's address. */
export const returnRule = `! -i ${link.nodeDevice} ${connectionHas(marks.proxy)} ${set(marks.proxyReturn)}`;

/** @param nodeAddress from which the node speaks to its pods: kubelet's probes come from it and pass */
export function nodeChains(nodeAddress: string): Chain[] {
  const fromTunnel = `-i ${link.nodeDevice}`;
  const saved = [remember(marks.connectionSkip), remember(marks.proxy)];
  const redirected = [`${has(marks.outbound)} -j ACCEPT`];
  return [
    {
      ...{ table: 'mangle', hook: 'PREROUTING', name: chains.prerouting },
      rules: [
        ...[inbound, outbound].flatMap(({ device }) => [`-i ${device} ${set(marks.skip)}`, `-i ${device} -j RETURN`]),
        // What is wrapped carries its wrapper's mark when it comes out: leave the wrapper alone.
        `-p udp -m udp --dport ${tunnelUdpPort} -j RETURN`,
        `${connectionHas(marks.connectionSkip)} ${set(marks.skip)}`,
        `${has(marks.skip)} -j RETURN`,
        returnRule,
        `${has(marks.proxyReturn)} -j RETURN`,
        // The tunnel answers, and connects, under addresses of others; all else it says is its own business.
        `${fromTunnel} ! --source ${link.address} ${set(marks.proxy)}`,
        `${has(marks.skip)} -j RETURN`,
        `${fromTunnel} ${set(marks.connectionSkip)}`,
        `-p udp ${set(marks.connectionSkip)}`,
        `${has(marks.skip)} -j RETURN`,
        outboundRule,
      ],
    },
    { table: 'mangle', hook: 'FORWARD', name: chains.forward, rules: saved },
    { table: 'mangle', hook: 'INPUT', name: chains.input, rules: saved },
    {
      ...{ table: 'mangle', hook: 'OUTPUT', name: chains.output },
      rules: [`--source ${nodeAddress} ${set(maskOf(marks.connectionSkip))}`],
    },
    { table: 'mangle', hook: 'POSTROUTING', name: chains.postrouting, rules: [] },
    // Before kube-proxy's rules: a connection that the tunnel gets keeps its service's address.
    { table: 'nat', hook: 'PREROUTING', name: chains.prerouting, rules: redirected },
    { table: 'nat', hook: 'POSTROUTING', name: chains.postrouting, rules: redirected },
  ];
}
