/**
 * What the tests run inside a pod: JSON requests on stdin, JSON answers on stdout, many at once. Beside `src/lab/caller.ts`, which
 * speaks as an application does, it asks DNS, tries doors that are not its own, and counts connections under load.
 */
import { createSocket } from 'node:dgram';
import { connect, type Socket } from 'node:net';
import { createInterface } from 'node:readline';
import { pathToFileURL } from 'node:url';
import { decodeAnswer, encodeQuery, type RecordType } from './dns-wire.ts';

export type PodRequest =
  /** connected: the UDP socket is connected, else each datagram is sent to the address */
  | { op: 'dns'; server: string; transport: 'udp' | 'udp-connected' | 'tcp'; name: string; type: RecordType; port?: number }
  | { op: 'try'; host: string; port: number; say: string }
  | { op: 'load'; id: string; host: string; port: number; workers: number; kept: number }
  | { op: 'stop'; id: string };

export interface DnsAnswer {
  code: number;
  addresses: string[];
  /** who answered, as the application sees it */
  from: string;
}

export interface TryAnswer {
  /** refused: no connection; ended: a connection that was ended; answered: it echoed what it was told; silent: neither until the deadline */
  outcome: 'refused' | 'ended' | 'answered' | 'silent';
  /** the system's name of the error, what came before the end ("" for nothing), for silence how far it got */
  detail: string;
}

export interface LoadAnswer {
  ok: number;
  /** by "phase code" */
  failed: Record<string, number>;
  kept: { rounds: number; /** ended between two rounds */ ended: number; /** ended with a round under way */ broken: number };
}

export interface PodAnswers {
  dns: DnsAnswer;
  try: TryAnswer;
  load: null;
  stop: LoadAnswer;
}

/** Longer than anything may take; an answer to it is a failure of the test, never of the machine. */
const DEADLINE_MS = 8000;
const PAYLOAD = Buffer.from('sixteen bytes...');
const KEPT_PAUSE_MS = 20;

interface Load {
  answer: LoadAnswer;
  on: boolean;
  running: Promise<unknown>;
}
const loads = new Map<string, Load>();

function perform(request: PodRequest): Promise<PodAnswers[keyof PodAnswers]> {
  switch (request.op) {
    case 'dns':
      return request.transport === 'tcp' ? dnsTcp(request) : dnsUdp(request);
    case 'try':
      return attempt(request);
    case 'load':
      start(request);
      return Promise.resolve(null);
    case 'stop':
      return stop(request.id);
  }
}

function dnsUdp({ server, port = 53, transport, name, type }: Extract<PodRequest, { op: 'dns' }>): Promise<DnsAnswer> {
  const socket = createSocket(server.includes(':') ? 'udp6' : 'udp4');
  return new Promise<DnsAnswer>((resolve, reject) => {
    const deadline = setTimeout(() => {
      reject(new Error(`no answer from ${server} within ${DEADLINE_MS} ms`));
    }, DEADLINE_MS);
    socket.on('error', reject);
    socket.on('message', (message, { address }) => {
      clearTimeout(deadline);
      const { code, addresses } = decodeAnswer(message);
      resolve({ code, addresses, from: address });
    });
    const query = encodeQuery(1 + Math.floor(Math.random() * 65_000), name, type);
    if (transport === 'udp') socket.send(query, port, server);
    else
      socket.connect(port, server, (error?: Error) => {
        if (error instanceof Error) reject(error);
        else socket.send(query);
      });
  }).finally(() => {
    socket.close();
  });
}

async function dnsTcp({ server, port = 53, name, type }: Extract<PodRequest, { op: 'dns' }>): Promise<DnsAnswer> {
  const socket = connect({ host: server, port });
  const query = encodeQuery(7, name, type);
  try {
    const message = await new Promise<Buffer>((resolve, reject) => {
      let received = Buffer.alloc(0);
      socket.setTimeout(DEADLINE_MS, () => {
        reject(new Error(`no answer from ${server} over TCP within ${DEADLINE_MS} ms`));
      });
      socket.on('error', reject);
      socket.on('end', () => {
        reject(new Error(`${server} closed the connection`));
      });
      socket.on('data', (data) => {
        received = Buffer.concat([received, data]);
        if (received.length >= 2 && received.length >= 2 + received.readUInt16BE(0)) resolve(received.subarray(2));
      });
      socket.write(Buffer.concat([Buffer.from([query.length >> 8, query.length & 0xff]), query]));
    });
    const { code, addresses } = decodeAnswer(message);
    return { code, addresses, from: socket.remoteAddress ?? '' };
  } finally {
    socket.destroy();
  }
}

function attempt({ host, port, say }: Extract<PodRequest, { op: 'try' }>): Promise<TryAnswer> {
  return new Promise((resolve) => {
    let connected = false;
    let received = '';
    const socket = connect({ host, port, allowHalfOpen: true });
    const done = (answer: TryAnswer): void => {
      socket.destroy();
      resolve(answer);
    };
    socket.setTimeout(DEADLINE_MS, () => {
      done({ outcome: 'silent', detail: connected ? 'connected' : 'connecting' });
    });
    socket.on('connect', () => {
      connected = true;
      socket.write(say);
    });
    socket.on('data', (data) => {
      received += data.toString('latin1');
      if (received === say) done({ outcome: 'answered', detail: received });
    });
    socket.on('end', () => {
      done({ outcome: 'ended', detail: received });
    });
    socket.on('error', (error: NodeJS.ErrnoException) => {
      const code = error.code ?? error.message;
      done(connected ? { outcome: 'ended', detail: received === '' ? code : received } : { outcome: 'refused', detail: code });
    });
  });
}

function start({ id, host, port, workers, kept }: Extract<PodRequest, { op: 'load' }>): void {
  const load: Load = { on: true, answer: { ok: 0, failed: {}, kept: { rounds: 0, ended: 0, broken: 0 } }, running: Promise.resolve() };
  loads.set(id, load);
  const each = (count: number, work: () => Promise<void>): Promise<void>[] => Array.from({ length: count }, work);
  load.running = Promise.all([
    ...each(workers, async () => {
      while (load.on) await newConnection(load, host, port);
    }),
    ...each(kept, async () => {
      while (load.on) await keptConnection(load, host, port);
    }),
  ]);
}

async function stop(id: string): Promise<LoadAnswer> {
  const load = loads.get(id);
  if (load === undefined) throw new Error(`there is no load ${id}`);
  load.on = false;
  await load.running;
  loads.delete(id);
  return load.answer;
}

/** Opens, has its bytes echoed, closes: all of it, or it failed. */
async function newConnection(load: Load, host: string, port: number): Promise<void> {
  let socket: Socket | undefined;
  let phase = 'connect';
  try {
    socket = await opened(host, port);
    phase = 'echo';
    await round(socket);
    load.answer.ok += 1;
  } catch (error) {
    const cause = `${phase} ${(error as NodeJS.ErrnoException).code ?? (error as Error).message}`;
    load.answer.failed[cause] = (load.answer.failed[cause] ?? 0) + 1;
    await new Promise((resolve) => setTimeout(resolve, 5)); // a closed door is not knocked on thousands of times
  } finally {
    socket?.destroy();
  }
}

/** Goes on until somebody ends it; that is counted, and another takes its place. */
async function keptConnection(load: Load, host: string, port: number): Promise<void> {
  let socket: Socket | undefined;
  try {
    socket = await opened(host, port);
    while (load.on) {
      if (socket.destroyed || socket.readableEnded) {
        load.answer.kept.ended += 1;
        return;
      }
      await round(socket);
      load.answer.kept.rounds += 1;
      await new Promise((resolve) => setTimeout(resolve, KEPT_PAUSE_MS));
    }
  } catch {
    load.answer.kept.broken += 1;
  } finally {
    socket?.destroy();
  }
}

function opened(host: string, port: number): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host, port, noDelay: true });
    socket.setTimeout(DEADLINE_MS, () => socket.destroy(Object.assign(new Error('timeout'), { code: 'ETIMEDOUT' })));
    socket.once('error', reject);
    socket.once('connect', () => {
      socket.off('error', reject);
      socket.on('error', () => undefined); // told by whoever reads or writes next
      resolve(socket);
    });
  });
}

function round(socket: Socket): Promise<void> {
  return new Promise((resolve, reject) => {
    let missing = PAYLOAD.length;
    const settle = (act: () => void): void => {
      socket.off('data', onData).off('error', onError).off('close', onClose);
      act();
    };
    const onData = (data: Buffer): void => {
      missing -= data.length;
      if (missing <= 0) settle(resolve);
    };
    const onError = (error: Error): void => {
      settle(() => {
        reject(error);
      });
    };
    const onClose = (): void => {
      settle(() => {
        reject(new Error('closed'));
      });
    };
    socket.on('data', onData).on('error', onError).on('close', onClose);
    socket.write(PAYLOAD);
  });
}

async function serve(): Promise<void> {
  process.stdout.write('{"seq":0,"ok":true}\n');
  for await (const line of createInterface({ input: process.stdin })) {
    const { seq, ...request } = JSON.parse(line) as PodRequest & { seq: number };
    perform(request).then(
      (answer) => process.stdout.write(`${JSON.stringify({ seq, ok: true, answer })}\n`),
      (error: unknown) => process.stdout.write(`${JSON.stringify({ seq, ok: false, error: (error as Error).message })}\n`),
    );
  }
  process.exit(0);
}

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href) await serve();
