/**
 * Listeners on the tunnel's ports that are not the tunnel's. They are never handed anything that is captured, but while one is there
 * without SO_REUSEPORT, the tunnel cannot listen.
 */
import { TUNNEL_PORTS, type Maps } from '../../maps/index.ts';
import type { Netns } from '../../sys/netns.ts';
import { slotsOf } from './listeners.ts';
import { isOpaque } from './transparency.ts'; // what transparency.ts says of it is the reason why it is not registered

/** One sentence per port. @throws CulvertError SYSTEM when the netns cannot be read */
export function squatterWarnings(maps: Maps, cookie: bigint, netns: Netns): string[] {
  const listeners = netns.run({ op: 'sockets', mark: 0, mask: 0, listening: true });
  return TUNNEL_PORTS.filter((port) => {
    const registered = slotsOf(maps, cookie, port);
    return listeners.some((socket) => socket.sport === port && !registered.includes(socket.cookie) && !isOpaque(socket));
  }).map(
    (port) =>
      `a listener on port ${port} is not the tunnel's: nothing that is captured reaches it, and it may keep the tunnel from listening; ` +
      'have the app listen elsewhere',
  );
}
