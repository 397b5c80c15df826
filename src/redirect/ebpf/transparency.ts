/**
 * Tunnel listeners on 15001 that are not transparent. Captured connections reach them with the original destination as local address,
 * from which only a transparent socket may answer over IPv4: the kernel drops the SYN-ACK, and the app's connect hangs until its
 * timeout. IPv6 works without, and so does everything inbound, where the local address is the pod's own.
 * IP_TRANSPARENT is set after listen(2), so the kernel's own hook cannot see it: inet_diag says it later.
 */
import { isIPv4 } from 'node:net';
import { CulvertError } from '../../base/errors.ts';
import { wire, type Maps } from '../../maps/index.ts';
import type { DiagSocket } from '../../sys/native.ts';
import type { Netns } from '../../sys/netns.ts';
import { removeListener, type Written } from './pod-entries.ts';

const SENTENCE =
  `the tunnel's listener on port ${wire.PORT_OUTBOUND} is not transparent (IP_TRANSPARENT): it could not answer IPv4 connections, which ` +
  'would hang; start ztunnel without ENABLE_ORIG_SRC=false, and with CAP_NET_ADMIN or CAP_NET_RAW';

/** What the driver knows of one netns. */
interface Place {
  cookie: bigint;
  netns: Netns;
  written: Pick<Written, 'byAddress'>;
}

/** @throws CulvertError ENROL_FAILED when no listener that is registered on 15001 could answer */
export function demandTransparent(maps: Maps, place: Place): void {
  const { registered, opaque } = look(maps, place);
  if (opaque.length > 0 && opaque.length === registered.length)
    throw new CulvertError('ENROL_FAILED', `activate netns ${place.cookie}: ${SENTENCE}`);
}

/** Takes them out of the map: the listener before them serves new connections, or they are refused at once. @returns how many */
export function refuseOpaque(maps: Maps, place: Place): number {
  const { opaque } = look(maps, place);
  for (const { slot } of opaque) removeListener(maps, { cookie: place.cookie, port: wire.PORT_OUTBOUND, slot });
  return opaque.length;
}

/** One sentence while such a listener lives, registered or refused. @throws CulvertError SYSTEM when the netns cannot be read */
export function transparencyWarnings(place: Place): string[] {
  return opaqueListeners(place).length === 0 ? [] : [`${SENTENCE}; new connections do not go to it`];
}

/** Of the map's living listeners on 15001, all and those that are not transparent. */
function look(maps: Maps, place: Place): Record<'registered' | 'opaque', { slot: number; socket: bigint }[]> {
  const registered = Array.from({ length: wire.LISTENER_SLOTS }, (_, slot) => {
    const socket = maps.listeners.get({ cookie: place.cookie, port: wire.PORT_OUTBOUND, slot });
    return socket === undefined ? [] : [{ slot, socket }];
  }).flat();
  const opaque = new Set(registered.length === 0 ? [] : opaqueListeners(place).map(({ cookie }) => cookie));
  return { registered, opaque: registered.filter(({ socket }) => opaque.has(socket)) };
}

/** Where the kernel does not say it, none is; nor where there is no IPv4 to be answered. */
function opaqueListeners({ netns, written }: Place): DiagSocket[] {
  if (![...written.byAddress].some((address) => isIPv4(address))) return [];
  return netns.run({ op: 'sockets', mark: 0, mask: 0, listening: true }).filter(isOpaque);
}

/** By its mark the tunnel's, on 15001, and not transparent. */
export function isOpaque({ sport, mark, transparent }: DiagSocket): boolean {
  return sport === wire.PORT_OUTBOUND && isTunnels(mark) && transparent === false;
}

/** The mark that the tunnel sets, or the one that the listener has of us since it registered. */
function isTunnels(mark: number): boolean {
  const low = mark & wire.MARK_MASK;
  return low === wire.MARK_TUNNEL || low === wire.MARK_LOCAL;
}
