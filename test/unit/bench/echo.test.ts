/** The benchmark's server: what it answers, and that its threads share the work alike in every run. */
import { readdirSync, readFileSync } from 'node:fs';
import { once } from 'node:events';
import { connect, createServer, type AddressInfo, type Socket } from 'node:net';
import { expect, test } from 'vitest';
import { native } from '../../../src/sys/native.ts';

const THREADS = 2;
const CONNECTIONS = 8;

test('kept connections are spread evenly over the threads, whichever of them wakes first', async () => {
  const server = native.echoServer(THREADS);
  try {
    const port = await freePort();
    const listener = server.listen(-1, {
      ...{ family: 4, type: 'tcp', reuseAddr: true, noDelay: true },
      ...{ bind: { address: '127.0.0.1', port }, listen: { backlog: 64 } },
    });
    const sockets: Socket[] = [];
    for (let i = 0; i < CONNECTIONS; i += 1) sockets.push(await echoed(port));
    expect(server.counts(listener)).toEqual({ accepted: CONNECTIONS, bytes: CONNECTIONS });
    expect(bytesByThread()).toEqual(Array.from({ length: THREADS }, () => CONNECTIONS / THREADS));
    for (const socket of sockets) socket.destroy();
  } finally {
    server.close();
  }
});

/** Resolves when one byte came back. */
async function echoed(port: number): Promise<Socket> {
  const socket = connect(port, '127.0.0.1');
  socket.write('E');
  const [data] = (await once(socket, 'data')) as [Buffer];
  expect(data.toString()).toBe('E');
  return socket;
}

/** What each of the server's threads has read, as the kernel counts it. */
function bytesByThread(): number[] {
  return readdirSync('/proc/self/task')
    .filter((task) => readFileSync(`/proc/self/task/${task}/comm`, 'utf8').trim() === 'culvert-echo')
    .map((task) => Number(/^rchar: (\d+)$/m.exec(readFileSync(`/proc/self/task/${task}/io`, 'utf8'))?.[1]));
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}
