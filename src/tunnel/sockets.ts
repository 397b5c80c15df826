/** What a pod's proxy needs of the pod's network: the seam between the tunnel's logic and sockets made inside a netns. */
import type { Server, Socket } from 'node:net';
import { unmapped, type SocketAddress } from '../state/address.ts';

export interface ConnectOptions {
  destination: SocketAddress;
  /** Address to connect from, foreign to the netns: the application sees the client itself. */
  source?: string;
}

export interface PodSockets {
  /**
   * Listening when resolved. Accepted sockets may be half-open; with `paused` nothing is read from them before resume().
   * @throws SYSTEM
   */
  listen(port: number, onConnection: (socket: Socket) => void, options: { paused: boolean }): Promise<Server>;
  /** Connected when resolved, half-open. @throws the system's error, ETIMEDOUT after 10 s */
  connect(options: ConnectOptions): Promise<Socket>;
  /** Where the application meant to go. */
  originalDestination(socket: Socket): SocketAddress;
}

/** An address that a socket lost when its peer closed before we looked reads as port 0. */
export function localAddress(socket: Socket): SocketAddress {
  return { ip: unmapped(socket.localAddress ?? ''), port: socket.localPort ?? 0 };
}

export function remoteAddress(socket: Socket): SocketAddress {
  return { ip: unmapped(socket.remoteAddress ?? ''), port: socket.remotePort ?? 0 };
}
