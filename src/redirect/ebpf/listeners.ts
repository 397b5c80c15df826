/**
 * The tunnel's listeners of one netns in the SOCKHASH. Usually the kernel registers them at listen(2); a listener that was there
 * before the programs is found in the tunnel's process and taken by its fd.
 */
import { TUNNEL_PORTS, wire, type Maps } from '../../maps/index.ts';
import { native, type DiagSocket } from '../../sys/native.ts';
import type { Netns } from '../../sys/netns.ts';
import { socketFds } from '../../sys/procfs.ts';

const TCP_LISTEN = 10;

/** Ports that ever had a listener in this netns, and whether one lives. */
export function listenersOf(maps: Maps, cookie: bigint): { port: number; alive: boolean }[] {
  return TUNNEL_PORTS.filter((port) => maps.generation.get({ cookie, port }) !== undefined).map((port) => ({
    port,
    alive: slotsOf(maps, cookie, port).length > 0,
  }));
}

/** Kernel's cookies of the living listeners of a port. */
export function slotsOf(maps: Maps, cookie: bigint, port: number): bigint[] {
  return Array.from({ length: wire.LISTENER_SLOTS }, (_, slot) => maps.listeners.get({ cookie, port, slot })).filter(
    (s) => s !== undefined,
  );
}

/**
 * Takes living listeners of the tunnel, process `pid`, into the map. Those registered already keep their place, so that the newest
 * tunnel stays the newest; doing it twice is doing it once.
 * @param procRoot a procfs of the pid namespace that `pid` is of
 * @returns how many were taken
 * @throws the system's error when the process cannot be looked into (EPERM without ptrace access, ESRCH)
 */
export function adoptListeners(maps: Maps, cookie: bigint, netns: Netns, pid: number, procRoot: string): number {
  const unknown = new Map(unregistered(maps, cookie, netns).map((s) => [s.inode, s]));
  if (unknown.size === 0) return 0;
  let taken = 0;
  for (const { fd: theirs, inode } of socketFds(pid, procRoot)) {
    const socket = unknown.get(inode);
    if (socket === undefined) continue;
    const fd = native.pidfdGetFd(pid, theirs);
    try {
      // the process may have closed it and opened another since: ask the socket itself
      const listener = native.socketListener(fd);
      if (listener?.cookie === cookie && listener.port === socket.sport) {
        register(maps, cookie, socket, fd);
        taken++;
      }
    } finally {
      native.closeFd(fd);
    }
    unknown.delete(inode);
  }
  return taken;
}

/** Listeners with the tunnel's mark, or the one we gave to 15001, that the map lacks. Oldest first. */
function unregistered(maps: Maps, cookie: bigint, netns: Netns): DiagSocket[] {
  const found = [wire.MARK_TUNNEL, wire.MARK_LOCAL].flatMap((mark) => netns.run({ op: 'sockets', mark, mask: wire.MARK_MASK }));
  const ports: readonly number[] = TUNNEL_PORTS;
  return found
    .filter((s) => s.state === TCP_LISTEN && ports.includes(s.sport) && !slotsOf(maps, cookie, s.sport).includes(s.cookie))
    .toSorted((a, b) => (a.cookie < b.cookie ? -1 : 1));
}

/** As sockops does it at listen(2): options first, then the socket, then its generation: who reads in between gets the one before. */
function register(maps: Maps, cookie: bigint, socket: DiagSocket, fd: number): void {
  const port = socket.sport;
  native.socketReuseAddr(fd);
  if (port === wire.PORT_OUTBOUND) native.socketMark(fd, (socket.mark & ~wire.MARK_MASK) | wire.MARK_LOCAL);
  const number = ((maps.generation.get({ cookie, port }) ?? 0) + 1) >>> 0;
  maps.listeners.set({ cookie, port, slot: number % wire.LISTENER_SLOTS }, BigInt(fd));
  maps.generation.set({ cookie, port }, number);
}
