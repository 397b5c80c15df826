/** The tunnel's doors inside a pod's netns, and the addresses that nobody may be tunnelled to. */
import { isLoopback, type SocketAddress } from '../state/address.ts';

export const OUTBOUND_PORT = 15001;
export const PLAINTEXT_PORT = 15006;
export const HBONE_PORT = 15008;

/** The mark by which the datapath tells the tunnel's sockets from the application's. */
export const TUNNEL_MARK = 0x539;

export function isIllegalPort(port: number): boolean {
  return port === OUTBOUND_PORT || port === PLAINTEXT_PORT || port === HBONE_PORT;
}

/**
 * A call through the outbound door to one of our own doors on loopback would go round in circles. To any other address it is let
 * go: the far end's inbound door refuses it.
 */
export function isRecursiveOutbound(destination: SocketAddress): boolean {
  return isIllegalPort(destination.port) && isLoopback(destination.ip);
}
