/**
 * Connections that Istio's rules translate, by the tunnel's sockets: accepted on its own ports, which is where NAT sends them, or opened
 * to the app from the client's address, whose answers need the mark that only the connection's has. What our drivers capture has mark
 * 0x111 instead, or the port that was dialled.
 */
import { wire } from '../../maps/layout.ts';
import type { Address, DiagSocket } from '../../sys/native.ts';
import type { Netns } from '../../sys/netns.ts';

const TCP_LISTEN = 10;

/** @throws CulvertError SYSTEM */
export function translatedConnections(netns: Netns): number {
  const [sockets, addresses] = netns.runAll([{ op: 'sockets', mark: 0, mask: 0 }, { op: 'addresses' }]) as [DiagSocket[], Address[]];
  const own = new Set(addresses.map(({ address }) => address));
  return sockets.filter((socket) => isTranslated(socket, own)).length;
}

export function isTranslated(
  { state, sport, src, mark }: Pick<DiagSocket, 'state' | 'sport' | 'src' | 'mark'>,
  own: ReadonlySet<string>,
): boolean {
  if (state === TCP_LISTEN) return false;
  const address = src.replace(/^::ffff:(?=\d+\.)/, '');
  if (sport === wire.PORT_OUTBOUND || sport === wire.PORT_INBOUND) return true; // whatever mark the listener has now
  return (mark & wire.MARK_MASK) === wire.MARK_TUNNEL && !own.has(address) && !isLoopback(address);
}

function isLoopback(address: string): boolean {
  return address.startsWith('127.') || address === '::1';
}
