/** HTTP to and from a node's namespace, without a process in it. */
import { closeSync, openSync } from 'node:fs';
import { createServer, request, type RequestListener, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { native } from '../../../src/sys/native.ts';
import { connect } from '../../../src/sys/socket.ts';

/** GET of a port on the namespace's loopback. @returns undefined when nobody listens there */
export async function get(netns: string, port: number, path: string): Promise<{ status: number; body: string } | undefined> {
  const fd = openSync(netns, 'r');
  try {
    const socket = await connect(fd, { family: 4, type: 'tcp', destination: { address: '127.0.0.1', port }, timeoutMs: 2000 });
    return await new Promise((resolve, reject) => {
      const asked = request({ path, createConnection: () => socket, headers: { host: 'node', connection: 'close' } }, (response) => {
        let body = '';
        response.on('data', (chunk: Buffer) => (body += chunk.toString()));
        response.on('end', () => resolve({ status: response.statusCode ?? 0, body }));
      });
      asked.on('error', reject);
      asked.end();
    });
  } catch (error) {
    if ((error as { systemCode?: string }).systemCode === 'ECONNREFUSED') return undefined;
    throw error;
  } finally {
    closeSync(fd);
  }
}

/** A server on the namespace's loopback, on any port. */
export async function serve(netns: string, handler: RequestListener): Promise<{ port: number; server: Server }> {
  const fd = openSync(netns, 'r');
  try {
    const listening = native.netnsSocket(fd, { family: 4, type: 'tcp', bind: { address: '127.0.0.1', port: 0 }, listen: { backlog: 16 } });
    const server = createServer(handler);
    await new Promise<void>((resolve) => server.listen({ fd: listening }, resolve));
    return { port: (server.address() as AddressInfo).port, server };
  } finally {
    closeSync(fd);
  }
}
