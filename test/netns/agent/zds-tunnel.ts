/**
 * A minimal tunnel as a process: connects to ZDS, listens in every netns it is given, greets whoever is captured (first line: who
 * answers and for which destination) and echoes. Reconnects like ztunnel, and ends at SnapshotSent what was neither added nor kept.
 * Arguments: socket path.
 */
import { closeSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { native } from '../../../src/sys/native.ts';
import { decodeRequest, encodeAck, encodeHello, type ZdsRequest } from '../../../src/zds/messages.ts';

const PORTS = [15001, 15006, 15008];
const [path = ''] = process.argv.slice(2);
const serving = new Map<string, { servers: Server[]; sockets: Set<Socket> }>();
let mentioned = new Set<string>();

function serve(uid: string, netnsFd: number): void {
  if (serving.has(uid)) return;
  const sockets = new Set<Socket>();
  const servers = PORTS.map((port) => {
    const options = {
      family: 6,
      type: 'tcp',
      mark: 0x539,
      transparent: true,
      reusePort: true,
      v6only: false,
      bind: { address: '::', port },
      listen: { backlog: 64 },
    } as const;
    const server = createServer((socket) => {
      sockets.add(socket);
      socket.on('close', () => sockets.delete(socket));
      socket.on('error', () => socket.destroy());
      socket.write(
        `${JSON.stringify({ by: `tunnel:${port}`, local: `${socket.localAddress} ${socket.localPort}`, remote: `${socket.remoteAddress} ${socket.remotePort}` })}\n`,
      );
      socket.pipe(socket);
    });
    server.listen({ fd: native.netnsSocket(netnsFd, options) });
    return server;
  });
  serving.set(uid, { servers, sockets });
}

function end(uid: string): void {
  const entry = serving.get(uid);
  serving.delete(uid);
  for (const server of entry?.servers ?? []) server.close();
  for (const socket of entry?.sockets ?? []) socket.destroy();
}

function obey(request: ZdsRequest, fds: number[]): void {
  switch (request.kind) {
    case 'add':
      mentioned.add(request.uid);
      serve(request.uid, fds[0] ?? -1);
      return;
    case 'keep':
      mentioned.add(request.uid);
      return;
    case 'del':
      end(request.uid);
      return;
    case 'snapshotSent':
      for (const uid of serving.keys()) if (!mentioned.has(uid)) end(uid);
  }
}

function connect(): void {
  mentioned = new Set();
  try {
    const socket = native.seqpacketConnect(path, 1024, {
      onPacket(data, fds) {
        let error = '';
        try {
          obey(decodeRequest(data), fds);
        } catch (caught) {
          error = String(caught);
        }
        for (const fd of fds) closeSync(fd);
        try {
          socket.send(encodeAck(error));
        } catch {
          // the agent has gone meanwhile: onClose follows
        }
      },
      onClose: () => {
        setTimeout(connect, 50);
      },
    });
    socket.send(encodeHello());
  } catch {
    setTimeout(connect, 50);
  }
}
connect();
