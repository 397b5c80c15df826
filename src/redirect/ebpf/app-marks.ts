/**
 * Listeners of an app that have a mark of their own. It wins over tcp_fwmark_accept, so the app's answers to a connection that came
 * through the tunnel would leave by eth0: such a port gets no inbound. LISTEN_CB sees one that starts while the pod is enrolled;
 * here all are found, also those that were there before, and those whose mark was set later.
 */
import { TUNNEL_PORTS, wire } from '../../maps/index.ts';
import type { DiagSocket } from '../../sys/native.ts';
import type { Netns } from '../../sys/netns.ts';

/** Each is a line in the log and an Event, and an app may have as many as there are ports. */
const MOST_SENTENCES = 8;

/** One sentence per port and mark, the first few by port. @throws CulvertError SYSTEM when the netns cannot be read */
export function markedListeners(netns: Netns): string[] {
  const listeners = netns.run({ op: 'sockets', mark: 0, mask: 0, listening: true });
  const sentences = [
    ...new Set(
      listeners
        .filter(isOfApp)
        .toSorted((a, b) => a.sport - b.sport || a.mark - b.mark)
        .map(sentence),
    ),
  ];
  const more = sentences.length - MOST_SENTENCES;
  return more <= 0
    ? sentences
    : [...sentences.slice(0, MOST_SENTENCES), `${more} more listeners have marks of their own: see "ss -ltne" in the pod`];
}

/** The tunnel's have its mark, or the one we gave to 15001. */
function isOfApp({ mark, sport }: DiagSocket): boolean {
  const ports: readonly number[] = TUNNEL_PORTS;
  const low = mark & wire.MARK_MASK;
  return mark !== 0 && !(ports.includes(sport) && (low === wire.MARK_TUNNEL || low === wire.MARK_LOCAL));
}

/** With our own mark, which makes answers stay in the pod, it is the other way round than with any other. */
function sentence({ sport, mark }: DiagSocket): string {
  const local = (mark & wire.MARK_MASK) === wire.MARK_LOCAL;
  const who = local ? "that pass the tunnel by, kubelet's probes for one," : 'that come through the tunnel';
  return (
    `listener on port ${sport} has mark 0x${mark.toString(16)}: connections ${who} cannot reach it; ` +
    'take the mark (SO_MARK) off that listener, or have the pod redirected by rules with annotation culvert.dev/redirect-driver=nftables (or iptables)'
  );
}
