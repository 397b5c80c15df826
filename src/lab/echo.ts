/**
 * The lab's application: HTTP on 8080 tells what the server sees of its client, 8081 speaks first, 8082 sends every byte back.
 * Both address families. Reports readiness on file descriptor 3.
 */
import { closeSync, writeSync } from 'node:fs';
import { createServer as createHttpServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { createServer, type Server, type Socket } from 'node:net';

export const echoPorts = { http: 8080, serverFirst: 8081, bytes: 8082 } as const;

export interface EchoAnswer {
  hostname: string;
  /** the client's address as the server sees it, IPv4 never mapped */
  peer: string;
  peerPort: number;
  /** the address the client asked for, as the server sees it */
  local: string;
  method: string;
  path: string;
  headers: Record<string, string | string[] | undefined>;
  body: string;
}

/** What a server-first client reads before it says anything. */
export function greeting(hostname: string): string {
  return `220 ${hostname} speaks first\r\n`;
}

export async function runEcho(hostname: string): Promise<void> {
  await Promise.all([
    listen(
      createHttpServer((request, response) => void answer(hostname, request, response)),
      echoPorts.http,
    ),
    listen(
      createServer((socket) => {
        speakFirst(hostname, socket);
      }),
      echoPorts.serverFirst,
    ),
    listen(createServer({ allowHalfOpen: true }, echoBytes), echoPorts.bytes),
  ]);
  reportReady();
}

async function listen(server: Server, port: number): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen({ port, host: '::', ipv6Only: false, backlog: 4096 }, resolve);
  });
}

async function answer(hostname: string, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  const seen: EchoAnswer = {
    hostname,
    peer: plain(request.socket.remoteAddress),
    peerPort: request.socket.remotePort ?? 0,
    local: plain(request.socket.localAddress),
    method: request.method ?? '',
    path: request.url ?? '',
    headers: request.headers,
    body: Buffer.concat(chunks).toString(),
  };
  response.writeHead(200, { 'content-type': 'application/json' });
  response.end(`${JSON.stringify(seen)}\n`);
}

function speakFirst(hostname: string, socket: Socket): void {
  socket.on('error', () => undefined); // a client that resets ends only its own connection
  socket.write(greeting(hostname));
  socket.once('data', (data) => {
    socket.end(`250 heard ${data.toString().trim()}\r\n`);
  });
}

function echoBytes(socket: Socket): void {
  socket.setNoDelay(true);
  socket.on('error', () => socket.destroy());
  socket.pipe(socket);
}

function plain(address: string | undefined): string {
  return (address ?? '').replace(/^::ffff:(?=\d+\.)/, '');
}

function reportReady(): void {
  try {
    writeSync(3, 'ready\n');
    closeSync(3);
  } catch {
    // started by hand, nobody waits
  }
}
