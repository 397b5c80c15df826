/** Unix SOCK_SEQPACKET with descriptors: packets keep their bounds, and a netns travels as an open file. */
import { native, type Seqpacket, type SeqpacketHandlers } from './native.ts';
import { attempt } from './system.ts';

/** Socket files are root's alone. */
const MODE = 0o600;

/**
 * Listens at a path; a dead listener's file is replaced. Packets longer than maxPacket arrive truncated, and say so.
 * @throws CulvertError SYSTEM; EADDRINUSE while another process listens there
 */
export function seqpacketListen(
  path: string,
  maxPacket: number,
  onConnection: (connection: Seqpacket) => SeqpacketHandlers,
): { close(): void } {
  return attempt(`listen on ${path}`, () => native.seqpacketListen(path, MODE, maxPacket, onConnection));
}

/** @throws CulvertError SYSTEM: ENOENT and ECONNREFUSED when nobody listens, EAGAIN when the listener's queue is full */
export function seqpacketConnect(path: string, maxPacket: number, handlers: SeqpacketHandlers): Seqpacket {
  return attempt(`connect to ${path}`, () => native.seqpacketConnect(path, maxPacket, handlers));
}
