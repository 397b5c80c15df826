/**
 * A client that lives inside a pod and does what it is told, line by line: JSON requests on stdin, JSON answers on stdout. One
 * process for many connections, so that proofs measure connections and not the start of programs.
 */
import { randomBytes } from 'node:crypto';
import { createSocket } from 'node:dgram';
import { request } from 'node:http';
import { connect, type Socket } from 'node:net';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';

export type CallRequest =
  /** GET, or POST when there is a body; a new connection each time */
  | { op: 'http'; host: string; port: number; path: string; headers?: Record<string, string>; body?: string }
  /** connects, reads what the server says first, answers, reads to the end */
  | { op: 'server-first'; host: string; port: number; say: string }
  /** sends so many random bytes, half-closes, compares what comes back */
  | { op: 'echo'; host: string; port: number; bytes: number }
  /** one UDP datagram, no answer */
  | { op: 'datagram'; host: string; port: number; text: string }
  /** opens a connection that stays; `send` uses it, `close` ends it */
  | { op: 'open'; id: string; host: string; port: number }
  | { op: 'send'; id: string; text: string }
  | { op: 'close'; id: string };

/** ms: time until the answer or the error. local: our end of the connection. */
export type CallAnswer = { ms: number } & (
  { ok: true; text: string; local?: string } | { ok: false; error: string; /** "ECONNREFUSED" */ code: string }
);

const TIMEOUT_MS = 10_000;

export async function runCaller(input: Readable, write: (text: string) => void): Promise<void> {
  const open = new Map<string, Socket>();
  write('{"ready":true}\n');
  for await (const line of createInterface({ input })) {
    const { seq, ...call } = JSON.parse(line) as CallRequest & { seq: number };
    const started = performance.now();
    // Not awaited: requests run side by side, answers carry the number of their request.
    void perform(call, open)
      .then(
        (done): CallAnswer => ({ ok: true, ms: performance.now() - started, ...done }),
        (reason: unknown): CallAnswer => {
          const error = reason as NodeJS.ErrnoException;
          return { ok: false, ms: performance.now() - started, error: error.message, code: error.code ?? '' };
        },
      )
      .then((answer) => {
        write(`${JSON.stringify({ seq, ...answer })}\n`);
      });
  }
  for (const socket of open.values()) socket.destroy();
}

interface Done {
  text: string;
  local?: string;
}

async function perform(call: CallRequest, open: Map<string, Socket>): Promise<Done> {
  switch (call.op) {
    case 'http':
      return http(call);
    case 'server-first':
      return serverFirst(call);
    case 'echo':
      return echo(call);
    case 'datagram':
      return datagram(call);
    case 'open': {
      const socket = await connected(call);
      open.set(call.id, socket);
      return { text: '', local: localOf(socket) };
    }
    case 'send':
      return send(open, call.id, call.text);
    case 'close':
      open.get(call.id)?.destroy();
      open.delete(call.id);
      return { text: '' };
  }
}

async function http(call: Extract<CallRequest, { op: 'http' }>): Promise<Done> {
  return new Promise((resolve, reject) => {
    const options = {
      host: call.host,
      port: call.port,
      path: call.path,
      method: call.body === undefined ? 'GET' : 'POST',
      agent: false,
      timeout: TIMEOUT_MS,
    };
    const outgoing = request({ ...options, headers: call.headers ?? {} }, (response) => {
      const local = localOf(response.socket);
      let text = '';
      response.setEncoding('utf8');
      response.on('data', (chunk: string) => (text += chunk));
      response.on('end', () => {
        resolve({ text, local });
      });
      response.on('error', reject);
    });
    outgoing.on('timeout', () => outgoing.destroy(timedOut()));
    outgoing.on('error', reject);
    outgoing.end(call.body);
  });
}

async function serverFirst(call: { host: string; port: number; say: string }): Promise<Done> {
  const socket = await connected(call);
  const first = await nextData(socket);
  socket.write(call.say);
  return { text: first + (await rest(socket)).toString(), local: localOf(socket) };
}

async function echo(call: { host: string; port: number; bytes: number }): Promise<Done> {
  const sent = randomBytes(call.bytes);
  const socket = await connected(call);
  socket.end(sent);
  const received = await rest(socket);
  if (!received.equals(sent)) throw new Error(`sent ${sent.length} bytes, ${received.length} other ones came back`);
  return { text: String(received.length), local: localOf(socket) };
}

async function datagram(call: Extract<CallRequest, { op: 'datagram' }>): Promise<Done> {
  const socket = createSocket(call.host.includes(':') ? 'udp6' : 'udp4');
  await new Promise<void>((resolve, reject) => {
    socket.once('error', reject);
    socket.send(call.text, call.port, call.host, (error) => {
      if (error === null) resolve();
      else reject(error);
    });
  });
  socket.close();
  return { text: '' };
}

async function send(open: Map<string, Socket>, id: string, text: string): Promise<Done> {
  const socket = open.get(id);
  if (socket === undefined || socket.destroyed || socket.readableEnded)
    throw Object.assign(new Error('the connection is closed'), { code: 'ECONNRESET' });
  const answer = nextData(socket);
  socket.write(text);
  return { text: await answer };
}

async function connected(to: { host: string; port: number }): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host: to.host, port: to.port, allowHalfOpen: true, noDelay: true });
    socket.setTimeout(TIMEOUT_MS, () => socket.destroy(timedOut()));
    socket.once('error', reject);
    socket.once('connect', () => {
      socket.setTimeout(0);
      socket.off('error', reject);
      socket.on('error', () => undefined); // told by whoever reads or writes next
      resolve(socket);
    });
  });
}

async function nextData(socket: Socket): Promise<string> {
  return new Promise((resolve, reject) => {
    const deadline = setTimeout(() => {
      reject(timedOut());
    }, TIMEOUT_MS);
    const settle = (act: () => void): void => {
      clearTimeout(deadline);
      socket.off('data', onData).off('end', onEnd).off('close', onClose).off('error', reject);
      socket.pause();
      act();
    };
    const onData = (data: Buffer): void => {
      settle(() => {
        resolve(data.toString());
      });
    };
    const onEnd = (): void => {
      settle(() => {
        reject(Object.assign(new Error('the peer ended the connection'), { code: 'EOF' }));
      });
    };
    const onClose = (): void => {
      settle(() => {
        reject(Object.assign(new Error('the connection was closed'), { code: 'ECONNRESET' }));
      });
    };
    socket.once('data', onData).once('end', onEnd).once('close', onClose).once('error', reject);
    socket.resume();
  });
}

async function rest(socket: Socket): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of socket) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}

function localOf(socket: Socket): string {
  const address = (socket.localAddress ?? '').replace(/^::ffff:(?=\d+\.)/, '');
  return address.includes(':') ? `[${address}]:${socket.localPort}` : `${address}:${socket.localPort}`;
}

function timedOut(): Error {
  return Object.assign(new Error(`no answer within ${TIMEOUT_MS / 1000} s`), { code: 'ETIMEDOUT' });
}
