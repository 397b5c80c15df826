/** An application in a pod, driven over IPC: a server of the kinds that a tunnel can get wrong, and the clients for it. */
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';

export const PORTS = { echo: 8080, first: 8081, sink: 8082, stall: 8083, reset: 8084, tail: 8085, mirror: 8086 };
/** A short exchange that takes longer has lost a packet for good: it fails by its own name, not as a test that never ends. */
const EXCHANGE_MS = 20_000;

export interface Commands {
  /** listens on all of PORTS, on :: */
  serve: { args: Record<string, never>; result: Record<string, never> };
  /** whoever stalls, one at least, reads on */
  resume: { args: Record<string, never>; result: Record<string, never> };
  /** one exchange with the echo server. `remote`: what the server saw */
  echo: { args: Target; result: { ok: boolean; error?: string; ms: number; remote?: string } };
  first: { args: Target; result: { text: string } };
  /** sends `bytes`, compares checksums */
  bulk: { args: Target & { bytes: number }; result: { ok: boolean; seconds: number } };
  /** `parallel` connections at once, each sending `bytes` and reading them back */
  mirror: { args: Target & { parallel: number; bytes: number }; result: { ok: number } };
  /** short connections, `parallel` at a time */
  many: { args: Target & { count: number; parallel: number }; result: { ok: number; errors: Record<string, number>; seconds: number } };
  /** sends half, ends, expects an answer of the server after the end */
  tail: { args: Target; result: { text: string } };
  reset: { args: Target; result: { code: string } };
}
export interface Target {
  host: string;
  port: number;
}

/** Connections of which nothing is read yet, as what lets each go on. */
const stalled: (() => void)[] = [];

function serve(): void {
  const listen = (port: number, onConnection: (socket: Socket) => void): void => {
    createServer({ allowHalfOpen: true, noDelay: true }, (socket) => {
      socket.on('error', () => undefined);
      onConnection(socket);
    }).listen({ port, host: '::', backlog: 4096 });
  };
  listen(PORTS.echo, (socket) => {
    socket.once('data', (chunk: Buffer) => socket.end(`${socket.remoteAddress ?? ''} ${chunk.toString()}`));
  });
  listen(PORTS.first, (socket) => socket.end('welcome'));
  const sink = (socket: Socket): void => {
    const hash = createHash('sha256');
    socket.on('data', (chunk: Buffer) => hash.update(chunk));
    socket.on('end', () => socket.end(hash.digest('hex')));
  };
  listen(PORTS.sink, sink);
  listen(PORTS.stall, (socket) => {
    socket.pause();
    stalled.push(() => {
      sink(socket);
      socket.resume();
    });
  });
  listen(PORTS.reset, (socket) => socket.once('data', () => socket.resetAndDestroy()));
  listen(PORTS.mirror, (socket) => socket.pipe(socket));
  listen(PORTS.tail, (socket) => {
    let text = '';
    socket.on('data', (chunk: Buffer) => (text += chunk.toString()));
    socket.on('end', () => setTimeout(() => socket.end(`after the end: ${text}`), 100));
  });
}

async function dial(target: Target): Promise<Socket> {
  const socket = connect({ ...target, allowHalfOpen: true, noDelay: true });
  await once(socket, 'connect');
  return socket;
}

async function text(socket: Socket): Promise<string> {
  let all = '';
  for await (const chunk of socket) all += String(chunk);
  return all;
}

async function exchange(target: Target): Promise<string> {
  const socket = connect({ ...target, allowHalfOpen: true, noDelay: true });
  const deadline = setTimeout(() => {
    const where = socket.connecting
      ? 'connecting'
      : `connected from port ${String(socket.localPort)}, ${String(socket.bytesRead)} bytes read`;
    socket.destroy(Object.assign(new Error('stuck'), { code: `stuck ${where}` }));
  }, EXCHANGE_MS);
  try {
    await once(socket, 'connect');
    socket.write('hello');
    const answer = await text(socket);
    socket.end();
    if (!answer.endsWith(' hello')) throw Object.assign(new Error(`answer "${answer}"`), { code: 'EANSWER' });
    return answer.split(' ')[0] ?? '';
  } finally {
    clearTimeout(deadline);
  }
}

const codeOf = (error: unknown): string => (error as NodeJS.ErrnoException).code ?? String(error);

const handlers: { [K in keyof Commands]: (args: Commands[K]['args']) => Promise<Commands[K]['result']> } = {
  serve: () => {
    serve();
    return Promise.resolve({});
  },
  resume: async () => {
    while (stalled.length === 0) await sleep(10); // accepted a moment after its caller sees it connected
    for (const goOn of stalled.splice(0)) goOn();
    return {};
  },
  echo: async (target) => {
    const started = performance.now();
    try {
      const remote = await exchange(target);
      return { ok: true, ms: performance.now() - started, remote };
    } catch (error) {
      return { ok: false, ms: performance.now() - started, error: codeOf(error) };
    }
  },
  first: async (target) => {
    const socket = await dial(target);
    const answer = await text(socket);
    socket.end();
    return { text: answer };
  },
  bulk: async ({ bytes, ...target }) => {
    const socket = await dial(target);
    const answer = text(socket);
    const block = randomBytes(1 << 20);
    const hash = createHash('sha256');
    const started = performance.now();
    for (let sent = 0; sent < bytes; sent += block.length) {
      hash.update(block);
      if (!socket.write(block)) await once(socket, 'drain');
    }
    socket.end();
    return { ok: (await answer) === hash.digest('hex'), seconds: (performance.now() - started) / 1000 };
  },
  mirror: async ({ parallel, bytes, ...target }) => {
    const sent = randomBytes(bytes);
    const one = async (): Promise<boolean> => {
      const socket = await dial(target);
      socket.end(sent);
      const back: Buffer[] = [];
      for await (const chunk of socket) back.push(chunk as Buffer);
      return Buffer.concat(back).equals(sent);
    };
    const results = await Promise.all(Array.from({ length: parallel }, one));
    return { ok: results.filter(Boolean).length };
  },
  many: async ({ count, parallel, ...target }) => {
    const errors: Record<string, number> = {};
    let next = 0;
    let ok = 0;
    const started = performance.now();
    const one = async (): Promise<void> => {
      while (next++ < count) {
        await exchange(target).then(
          () => ok++,
          (error: unknown) => (errors[codeOf(error)] = (errors[codeOf(error)] ?? 0) + 1),
        );
      }
    };
    await Promise.all(Array.from({ length: parallel }, one));
    return { ok, errors, seconds: (performance.now() - started) / 1000 };
  },
  tail: async (target) => {
    const socket = await dial(target);
    socket.end('half');
    return { text: await text(socket) };
  },
  reset: async (target) => {
    const socket = await dial(target);
    socket.resume();
    const failed = once(socket, 'close').then(
      () => 'closed',
      (error: unknown) => codeOf(error),
    );
    socket.write('x');
    return { code: await failed };
  },
};

/** Started as a process; the tests import only names from here. */
if (process.argv[1] === import.meta.filename) {
  process.on('message', (message: { id: number; op: keyof Commands; args: never }) => {
    (handlers[message.op] as (args: never) => Promise<unknown>)(message.args).then(
      (result) => process.send?.({ id: message.id, result }),
      (error: unknown) => process.send?.({ id: message.id, error: String(error) }),
    );
  });
  process.on('disconnect', () => process.exit(0));
  process.send?.({ ready: true });
}
