/** The exchange over a unix socket, against real ones. */
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { exchange } from '../../../src/cni/unix-socket.ts';

let dir: string;
let path: string;
let server: Server | undefined;
const sockets: Socket[] = [];

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'culvert-socket-'));
  path = join(dir, 's');
});

afterEach(async () => {
  for (const socket of sockets.splice(0)) socket.destroy();
  await new Promise((resolve) => (server === undefined ? resolve(undefined) : server.close(resolve)));
  server = undefined;
  rmSync(dir, { recursive: true });
});

async function serve(onSocket: (socket: Socket) => void): Promise<void> {
  const listening = createServer({ allowHalfOpen: true }, (socket) => {
    sockets.push(socket);
    socket.on('error', () => undefined);
    onSocket(socket);
  });
  server = listening;
  await new Promise((resolve) => listening.listen(path, () => resolve(undefined)));
}

const LIMIT = 8 << 20;

test('much text of several bytes a character comes back as it went', async () => {
  const text = 'ä€𝄞x'.repeat(200_000);
  await serve((socket) => {
    let left = Buffer.byteLength(text);
    socket.on('data', (chunk: Buffer) => {
      socket.write(chunk);
      left -= chunk.length;
      if (left === 0) socket.end();
    });
  });
  expect(await exchange(path, text, 5000, LIMIT)).toBe(text);
});

test('an answer in pieces is one text, cut where a character is, too', async () => {
  const answer = Buffer.from('€'.repeat(10));
  await serve((socket) => {
    socket.once('data', () => {
      let at = 0;
      const timer = setInterval(() => {
        socket.write(answer.subarray(at, ++at));
        if (at < answer.length) return;
        clearInterval(timer);
        socket.end();
      }, 2);
    });
  });
  expect(await exchange(path, 'x', 5000, LIMIT)).toBe('€'.repeat(10));
});

test('an answer counts though the question was not read to its end', async () => {
  await serve((socket) => {
    socket.once('data', () => socket.end('enough'));
  });
  expect(await exchange(path, 'x'.repeat(4 << 20), 5000, LIMIT)).toBe('enough');
});

test.each<[string, (at: string) => void, RegExp]>([
  ['nothing there', () => undefined, /^connect: ENOENT$/],
  ['a file that is no socket', (at) => writeFileSync(at, ''), /^connect: ECONNREFUSED$/],
])('%s', async (_, make, message) => {
  make(path);
  await expect(exchange(path, 'x', 5000, LIMIT)).rejects.toThrow(message);
});

test('a path that is too long for a socket', async () => {
  await expect(exchange(`/tmp/${'x'.repeat(200)}`, 'x', 5000, LIMIT)).rejects.toThrow(/^connect: E(NAMETOOLONG|INVAL)$/);
});

test('the other end resets', async () => {
  // who closes without having read resets
  await serve((socket) => {
    socket.pause();
    setImmediate(() => socket.destroy());
  });
  await expect(exchange(path, 'x'.repeat(100_000), 5000, LIMIT)).rejects.toThrow(/^(read|write): E(CONNRESET|PIPE)$/);
});

test('nobody answers', async () => {
  await serve(() => undefined);
  await expect(exchange(path, 'x', 50, LIMIT)).rejects.toThrow(/^no answer within 50 ms$/);
});

test('an answer without end', async () => {
  await serve((socket) => {
    const more = (): void => {
      while (!socket.destroyed && socket.write('x'.repeat(10_000)));
    };
    socket.on('drain', more);
    more();
  });
  await expect(exchange(path, 'x', 5000, 100_000)).rejects.toThrow(/^the answer does not end$/);
});

test('no descriptor is left, however it ended', async () => {
  await serve((socket) => {
    socket.once('data', (data) => {
      if (data.toString() === 'answer') socket.end('yes');
    });
    socket.on('end', () => socket.end());
  });
  const open = (): number => readdirSync('/proc/self/fd').length;
  const before = open();
  await Promise.allSettled(
    ['answer', 'hang', 'answer'].flatMap((text) => [exchange(path, text, 100, LIMIT), exchange(`${path}-none`, text, 100, LIMIT)]),
  );
  await expect.poll(open).toBe(before);
});
