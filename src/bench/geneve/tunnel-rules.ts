/** What iptables does in the tunnel's namespace: the first packet of a connection is given to the listener of its direction. */
import { chains, inbound, link, listenerPorts, marks, outbound } from './plan.ts';
import type { Chain } from './ruleset.ts';

const give = (port: number): string => `-j TPROXY --tproxy-mark ${marks.tproxy} --on-port ${port} --on-ip 127.0.0.1`;

export function tunnelChains(): Chain[] {
  return [
    {
      ...{ table: 'mangle', hook: 'PREROUTING', name: chains.tunnel },
      rules: [
        `-p tcp -i ${inbound.peerDevice} -m tcp --dport ${listenerPorts.inboundHbone} ${give(listenerPorts.inboundHbone)}`,
        `-p tcp -i ${outbound.peerDevice} ${give(listenerPorts.outbound)}`,
        `-p tcp -i ${inbound.peerDevice} ${give(listenerPorts.inboundPlain)}`,
        // The rest of a connection comes over the link itself, without a wrapper.
        `-p tcp -i ${link.tunnelDevice} ! --dst ${link.address} -j MARK --set-mark ${marks.originalSource}`,
      ],
    },
  ];
}
