/**
 * TCP of a network namespace as Node's own servers and sockets. The socket is made natively inside the namespace and adopted by
 * its descriptor: Node's listen and connect would act in the process's namespace.
 */
import { createServer, Socket, type Server } from 'node:net';
import { native, type SocketOptions } from './native.ts';
import { systemError } from './system.ts';

export interface ListenOptions extends Omit<SocketOptions, 'type' | 'listen' | 'bind'> {
  address: string;
  port: number;
  /** listen(2)'s; passed on to Node too, which would otherwise listen again with 511 */
  backlog: number;
  /** accepted sockets are handed over unread */
  paused?: boolean;
}

/** A server listening in the namespace. @throws CulvertError SYSTEM */
export async function listen(netnsFd: number, options: ListenOptions, onConnection: (socket: Socket) => void): Promise<Server> {
  const { address, port, backlog, paused, ...socket } = options;
  const what = `listen on ${endpoint(address, port)}`;
  let fd: number;
  try {
    fd = native.netnsSocket(netnsFd, { ...socket, type: 'tcp', bind: { address, port }, listen: { backlog } });
  } catch (error) {
    throw systemError(what, error);
  }
  const server = createServer({ allowHalfOpen: true, pauseOnConnect: paused ?? false }, onConnection);
  return await new Promise((resolve, reject) => {
    const refuse = (error: Error): void => {
      reject(systemError(what, error));
    };
    server.once('error', refuse);
    server.listen({ fd, backlog }, () => {
      server.off('error', refuse);
      resolve(server);
    });
  });
}

export type ConnectOptions = Parameters<typeof native.netnsConnect>[1];

/** A connected socket of the namespace, both directions closed separately. @throws CulvertError SYSTEM, with ETIMEDOUT after timeoutMs */
export async function connect(netnsFd: number, options: ConnectOptions): Promise<Socket> {
  const { address, port } = options.destination;
  try {
    const fd = await native.netnsConnect(netnsFd, options);
    return new Socket({ fd, allowHalfOpen: true, readable: true, writable: true });
  } catch (error) {
    throw systemError(`connect to ${endpoint(address, port)}`, error);
  }
}

/** What the client of an accepted socket dialled, by conntrack; undefined when that knows nothing of it, or the socket is closed. */
export function originalDestination(socket: Socket): { address: string; port: number } | undefined {
  const fd = (socket as { _handle?: { fd?: number } | null })._handle?.fd; // Node has no public name for it
  return fd === undefined || fd < 0 ? undefined : native.socketOriginalDestination(fd);
}

function endpoint(address: string, port: number): string {
  return address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`;
}
