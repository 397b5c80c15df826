/** What the tunnel has in a pod's netns, through inet_diag: its sockets carry mark 0x539. */
import { TUNNEL_PORTS, wire } from '../../maps/layout.ts';
import type { DiagSocket } from '../../sys/native.ts';
import type { Netns } from '../../sys/netns.ts';

/** TCP_ESTABLISHED, TCP_SYN_RECV, TCP_FIN_WAIT1, TCP_CLOSE_WAIT: something is still to come, or to be sent. */
const OPEN: ReadonlySet<number> = new Set([1, 3, 4, 8]);
const TCP_LISTEN = 10;
const FIRST_PAUSE_MS = 2;
const LONGEST_PAUSE_MS = 50;
const tunnels = { mark: wire.MARK_TUNNEL, mask: wire.MARK_MASK } as const;

/** The ebpf driver gives the 15001 listener mark 0x111, which it keeps when the pod moves from there, and what it accepts has it, too. */
const either = { mark: wire.MARK_TUNNEL & wire.MARK_LOCAL, mask: wire.MARK_TUNNEL & wire.MARK_LOCAL } as const;
const isTunnels = ({ mark }: DiagSocket): boolean => (mark & wire.MARK_MASK) === wire.MARK_TUNNEL;
const wasEbpfs = ({ mark, sport }: DiagSocket): boolean => (mark & wire.MARK_MASK) === wire.MARK_LOCAL && sport === wire.PORT_OUTBOUND;

export function tunnelListeners(netns: Netns): { port: number; alive: boolean }[] {
  const sockets = netns.run({ op: 'sockets', ...either, listening: true });
  const ports = new Set(sockets.filter((socket) => isTunnels(socket) || wasEbpfs(socket)).map(({ sport }) => sport));
  return TUNNEL_PORTS.filter((port) => ports.has(port)).map((port) => ({ port, alive: true }));
}

/** Sockets of captured connections: what was accepted on a redirected port, and what goes on to the application as its client. */
function carrying(netns: Netns): DiagSocket[] {
  const [addresses, sockets] = [netns.run({ op: 'addresses' }), netns.run({ op: 'sockets', ...either })];
  const own = new Set(addresses.map(({ address }) => address));
  const redirected = (port: number): boolean => port === wire.PORT_OUTBOUND || port === wire.PORT_INBOUND || port === wire.PORT_DNS;
  const plain = (address: string): string => address.replace(/^::ffff:(?=.*\.)/, '');
  return sockets.filter(
    (socket) =>
      socket.state !== TCP_LISTEN && (wasEbpfs(socket) || (isTunnels(socket) && (redirected(socket.sport) || own.has(plain(socket.dst))))),
  );
}

export function capturedConnections(netns: Netns): number {
  return carrying(netns).filter(({ state }) => OPEN.has(state)).length;
}

/**
 * Waits until those that are there now have ended; what is left at the deadline is destroyed, for without rules its packets would go
 * astray. Where another redirect serves the netns already, that is left undone if it would hit connections of the other one, too.
 */
export async function endCaptured(netns: Netns, deadlineMs: number, successor: boolean): Promise<void> {
  const ours = new Set(carrying(netns).map(({ cookie }) => cookie));
  const deadline = performance.now() + deadlineMs;
  for (let pause = FIRST_PAUSE_MS; ; pause = Math.min(2 * pause, LONGEST_PAUSE_MS)) {
    const sockets = carrying(netns);
    const left = sockets.filter(({ cookie }) => !successor || ours.has(cookie));
    if (left.length === 0) return;
    const time = deadline - performance.now();
    if (time <= 0) {
      if (left.length === sockets.length) netns.run({ op: 'sockets-destroy', ...tunnels });
      return;
    }
    await new Promise((resolve) => setTimeout(resolve, Math.min(pause, time)));
  }
}
