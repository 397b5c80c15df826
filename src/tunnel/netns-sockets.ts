/** A pod's sockets, made natively inside its netns and adopted by fd: Node's own listen and connect act in the host's netns. */
import { createServer, Socket, type Server } from 'node:net';
import { CulvertError, systemCause } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import { native, type SocketOptions } from '../sys/native.ts';
import { familyOf, type SocketAddress } from '../state/address.ts';
import { TUNNEL_MARK } from './ports.ts';
import { localAddress, type ConnectOptions, type PodSockets } from './sockets.ts';

const BACKLOG = 128;
const CONNECT_TIMEOUT_MS = 10_000;
/** Inherited by accepted sockets, so that they cost no system call of their own. */
const COMMON = { type: 'tcp', mark: TUNNEL_MARK, noDelay: true, keepalive: { idle: 180, interval: 180, count: 9 } } as const;

export class NetnsSockets implements PodSockets {
  readonly #netnsFd: number;
  readonly #log: Logger;

  /** @param netnsFd stays the caller's, and open until the pod is served no more */
  constructor(netnsFd: number, log: Logger) {
    this.#netnsFd = netnsFd;
    this.#log = log;
  }

  listen(port: number, onConnection: (socket: Socket) => void, options: { paused: boolean }): Promise<Server> {
    const fd = this.#listener(port);
    const server = createServer({ allowHalfOpen: true, pauseOnConnect: options.paused }, onConnection);
    return new Promise((resolve, reject) => {
      server.once('error', reject);
      server.listen({ fd }, BACKLOG, () => {
        server.off('error', reject);
        server.on('error', (error) => {
          this.#log.error({ port, err: error }, 'listener failed'); // EMFILE and the like: the next accept may do
        });
        resolve(server);
      });
    });
  }

  async connect({ destination, source }: ConnectOptions): Promise<Socket> {
    if (source === undefined || source === destination.ip) return this.#connect(destination, undefined);
    try {
      return await this.#connect(destination, source);
    } catch (error) {
      if (systemCause(error).syscall !== 'bind') throw error;
      // Better seen as the pod's own address than not at all; ztunnel does the same.
      this.#log.warn({ source, err: error }, 'client address not kept towards the application');
      return this.#connect(destination, undefined);
    }
  }

  originalDestination(socket: Socket): SocketAddress {
    return localAddress(socket); // the datapath does not rewrite: the accepted socket's own address is what was dialled
  }

  /** Dual-stack, or IPv4 alone where the netns has no IPv6. */
  #listener(port: number): number {
    const options: Omit<SocketOptions, 'family'> = { ...COMMON, reuseAddr: true, reusePort: true, transparent: true, listen: { backlog: BACKLOG } };
    try {
      return native.netnsSocket(this.#netnsFd, { ...options, family: 6, v6only: false, bind: { address: '::', port } });
    } catch (error) {
      const { systemCode } = systemCause(error);
      if (systemCode !== 'EAFNOSUPPORT' && systemCode !== 'EADDRNOTAVAIL') throw listenError(port, error);
    }
    try {
      return native.netnsSocket(this.#netnsFd, { ...options, family: 4, bind: { address: '0.0.0.0', port } });
    } catch (error) {
      throw listenError(port, error);
    }
  }

  async #connect(destination: SocketAddress, source: string | undefined): Promise<Socket> {
    const fd = await native.netnsConnect(this.#netnsFd, {
      ...COMMON,
      family: familyOf(destination.ip),
      // The port must be final before connect(): the datapath knows our own connection by its whole tuple.
      ...(source === undefined ? {} : { transparent: true, freebind: true, source: { address: source, port: 0 } }),
      destination: { address: destination.ip, port: destination.port },
      timeoutMs: CONNECT_TIMEOUT_MS,
    });
    return new Socket({ fd, allowHalfOpen: true, readable: true, writable: true });
  }
}

function listenError(port: number, error: unknown): CulvertError {
  return new CulvertError('SYSTEM', `listen on port ${String(port)} in the pod's netns`, error);
}
