/** Doors for operators and the kubelet: a few paths over HTTP, GET only, on a port or a unix socket. */
import { chmodSync } from 'node:fs';
import { mkdir, rename, rm, stat } from 'node:fs/promises';
import { createServer, type RequestListener, type Server } from 'node:http';
import type { ListenOptions } from 'node:net';
import { dirname } from 'node:path';
import { CulvertError, describe } from '../base/errors.ts';

export interface Answer {
  status: number;
  type: string;
  body: string;
}

export function routes(table: Record<string, () => Answer | Promise<Answer>>): RequestListener {
  return (request, response) => {
    const [path = ''] = (request.url ?? '').split('?', 1); // not as a URL: what is none, "//", would throw and end the process
    const route = Object.hasOwn(table, path) ? table[path] : undefined;
    const say = ({ status, type, body }: Answer): void => {
      response.writeHead(status, { 'content-type': type }).end(body);
    };
    if (request.method !== 'GET') say({ status: 405, type: 'text/plain', body: 'GET only\n' });
    else if (route === undefined) say({ status: 404, type: 'text/plain', body: `not found; there is ${Object.keys(table).join(', ')}\n` });
    else
      new Promise<Answer>((resolve) => resolve(route())).then(say, (error: unknown) =>
        say({ status: 500, type: 'text/plain', body: `${describe(error)}\n` }),
      );
  };
}

/** @throws SYSTEM */
export async function serveTcp(handler: RequestListener, port: number, host?: string): Promise<Server> {
  return listen(handler, host === undefined ? { port } : { port, host }, `port ${String(port)}`);
}

/** As `serveTcp`, with a door that can be closed at once. @throws SYSTEM */
export async function openDoor(handler: RequestListener, port: number): Promise<{ close(): void }> {
  const server = await serveTcp(handler, port);
  return {
    close: () => {
      server.close();
      server.closeAllConnections();
    },
  };
}

export interface UnixServer {
  close(): Promise<void>;
}

/**
 * A unix socket, 0600. A tunnel that replaces another takes its path over: the socket is made beside and renamed, so that the
 * older one, closing later, does not take the newer one's path away. @throws SYSTEM
 */
export async function serveUnix(handler: RequestListener, path: string): Promise<UnixServer> {
  await mkdir(dirname(path), { recursive: true });
  const fresh = `${path}.${String(process.pid)}`;
  await rm(fresh, { force: true });
  const server = await listen(handler, { path: fresh }, path);
  chmodSync(fresh, 0o600);
  const { ino } = await stat(fresh);
  await rename(fresh, path);
  return {
    close: async () => {
      server.close();
      server.closeAllConnections();
      const current = await stat(path).catch(() => undefined);
      if (current?.ino === ino) await rm(path, { force: true });
    },
  };
}

function listen(handler: RequestListener, options: ListenOptions, what: string): Promise<Server> {
  return new Promise((resolve, reject) => {
    const server = createServer(handler);
    server.once('error', (error) => {
      reject(new CulvertError('SYSTEM', `listen on ${what}`, error));
    });
    server.listen(options, () => {
      resolve(server);
    });
  });
}
