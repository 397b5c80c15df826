/** A pod's sockets, made natively inside its netns: listeners for everything that the datapath brings, connections as the client. */
import type { Server, Socket } from 'node:net';
import { isSystem, systemCause } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import { familyOf, unmapped, type SocketAddress } from '../state/address.ts';
import { connect, listen, originalDestination, type ListenOptions } from '../sys/socket.ts';
import { ClientPorts, ephemeralPorts } from './client-ports.ts';
import { HBONE_SEND_BUFFER } from './http2-settings.ts';
import { HBONE_PORT, OUTBOUND_PORT, PLAINTEXT_PORT, TUNNEL_MARK } from './ports.ts';
import { localAddress, type ConnectOptions, type PodSockets } from './sockets.ts';

const BACKLOG = 128;
const CONNECT_TIMEOUT_MS = 10_000;
/** Set on listeners and inherited by what they accept, so that accepted sockets cost no system call of their own. */
const COMMON = { mark: TUNNEL_MARK, reuseAddr: true, noDelay: true, keepalive: { idle: 180, interval: 180, count: 9 } } as const;

/** Neighbouring ports that are tried before the kernel may search for one. */
const PORT_TRIES = 8;

export class NetnsSockets implements PodSockets {
  readonly #netnsFd: number;
  readonly #log: Logger;
  #ports: ClientPorts | undefined;

  /** @param netnsFd stays the caller's, and open until the pod is served no more */
  constructor(netnsFd: number, log: Logger) {
    this.#netnsFd = netnsFd;
    this.#log = log;
  }

  /** Dual-stack, or IPv4 alone where the netns has no IPv6. */
  async listen(port: number, onConnection: (socket: Socket) => void, options: { paused: boolean }): Promise<Server> {
    const common: Omit<ListenOptions, 'family' | 'address'> = {
      ...optionsFor(port),
      port,
      paused: options.paused,
      reusePort: true,
      transparent: true,
      backlog: BACKLOG,
    };
    let server: Server;
    try {
      server = await listen(this.#netnsFd, { ...common, family: 6, address: '::', v6only: false }, onConnection);
    } catch (error) {
      if (!isSystem(error, 'EAFNOSUPPORT') && !isSystem(error, 'EADDRNOTAVAIL')) throw error;
      server = await listen(this.#netnsFd, { ...common, family: 4, address: '0.0.0.0' }, onConnection);
    }
    server.on('error', (error) => {
      this.#log.error({ port, err: error }, 'accept failed'); // EMFILE and the like: the next one may do
    });
    return server;
  }

  async connect({ destination, source }: ConnectOptions): Promise<Socket> {
    if (source === undefined || source === destination.ip) return this.#connect(destination);
    try {
      return await this.#connectAs(source, destination);
    } catch (error) {
      if (systemCause(error).syscall !== 'bind') throw error;
      // Better seen as the pod's own address than not at all; ztunnel does the same.
      this.#log.warn({ source, err: error }, 'client address not kept towards the application');
      return this.#connect(destination);
    }
  }

  /**
   * A datapath that marks leaves the accepted socket the address that was dialled. One that rewrites (iptables, nftables) leaves it
   * that of the listener, so that conntrack is asked only then; who dialled the listener itself gets the same answer from it.
   */
  originalDestination(socket: Socket): SocketAddress {
    const local = localAddress(socket);
    if (local.port !== OUTBOUND_PORT && local.port !== PLAINTEXT_PORT) return local;
    const dialled = originalDestination(socket);
    return dialled === undefined ? local : { ip: unmapped(dialled.address), port: dialled.port };
  }

  /**
   * With an address, the port must be final before connect(): the datapath knows our connection by its whole tuple. Left to the
   * kernel, the search for a free one takes hundreds of microseconds once some thousand connections are in TIME_WAIT; going
   * through the ports in turn, the next one is all but always free.
   */
  async #connectAs(source: string, destination: SocketAddress): Promise<Socket> {
    // read for the first client, not while the pod's start waits for the listeners
    const ports = (this.#ports ??= new ClientPorts(ephemeralPorts(this.#netnsFd)));
    for (let tries = 0; tries < PORT_TRIES; tries++) {
      try {
        return await this.#connect(destination, { address: source, port: ports.next() });
      } catch (error) {
        const { systemCode, syscall } = systemCause(error);
        const taken = systemCode === 'EADDRINUSE' || (systemCode === 'EADDRNOTAVAIL' && syscall === 'connect');
        if (!taken) throw error;
      }
    }
    return this.#connect(destination, { address: source, port: 0 });
  }

  #connect(destination: SocketAddress, source?: { address: string; port: number }): Promise<Socket> {
    return connect(this.#netnsFd, {
      ...optionsFor(destination.port),
      type: 'tcp',
      family: familyOf(destination.ip),
      ...(source === undefined ? {} : { transparent: true, freebind: true, source }),
      destination: { address: destination.ip, port: destination.port },
      timeoutMs: CONNECT_TIMEOUT_MS,
    });
  }
}

/** @param port on which HBONE is spoken, or any other */
function optionsFor(port: number): typeof COMMON & { sendBuffer?: number } {
  return port === HBONE_PORT ? { ...COMMON, sendBuffer: HBONE_SEND_BUFFER } : COMMON;
}
