/**
 * A process inside a netns and a cgroup of a test, driven over IPC: an app that connects and listens, or a stand-in for the tunnel
 * (mark 0x539, transparent, ports 15001, 15006, 15008, answers every byte, plays the client towards the app). Sockets belong to the
 * cgroup of the process that made them, so a test needs real processes to be "the app" and "the tunnel".
 */
import { openSync } from 'node:fs';
import { connect, createServer, Socket, type Server } from 'node:net';
import { native } from '../../src/sys/native.ts';

export interface ConnectOptions {
  host: string;
  port: number;
  localAddress?: string;
  localPort?: number;
  timeoutMs?: number;
}
export interface Connected {
  ok: boolean;
  /** system code of the failure, ETIMEDOUT when nothing answered */
  code?: string;
  ms: number;
  /** the first line the other side sent, JSON of Accepted */
  greeting?: Accepted;
  local?: string;
  /** what the app's own getpeername says */
  remote?: string;
}
/** What a listener saw of a connection; sent as the first line to whoever connected. */
export interface Accepted {
  by: string;
  /** "address port" */
  local: string;
  remote: string;
}

/** Commands and what they answer. */
export interface Commands {
  /** a plain listener of an app */
  listen: { args: { name: string; host: string; port: number }; result: { code?: string } };
  unlisten: { args: { name: string }; result: Record<string, never> };
  /** connect, read the greeting, close */
  connect: { args: ConnectOptions; result: Connected };
  /** the same, kept open under a name */
  open: { args: ConnectOptions & { name: string }; result: Connected };
  /** a line there and back on a kept connection */
  echo: { args: { name: string; text: string }; result: { ok: boolean; code?: string } };
  /** ends a kept connection */
  shut: { args: { name: string }; result: Record<string, never> };
  /** connects in a loop until `stop`; pauseMs: between two */
  load: { args: ConnectOptions & { name: string; pauseMs?: number }; result: Record<string, never> };
  stop: { args: { name: string }; result: { ok: number; failed: Record<string, number> } };
  /** the tunnel's listeners in a netns; mark and cgroup are what proves it */
  serve: {
    args: { name: string; netns: string; ports: number[]; mark?: number; transparent?: boolean; outbound?: 'greet' | 'forward' };
    result: Record<string, never>;
  };
  unserve: { args: { name: string }; result: Record<string, never> };
}

const servers = new Map<string, Server[]>();
const kept = new Map<string, Socket>();
const loads = new Map<string, { stop: boolean; ok: number; failed: Record<string, number>; done: Promise<void> }>();
const ends = (s: Socket): { local: string; remote: string } => ({
  local: `${s.localAddress} ${s.localPort}`,
  remote: `${s.remoteAddress} ${s.remotePort}`,
});

function greet(by: string, s: Socket): void {
  s.on('error', () => s.destroy());
  s.write(`${JSON.stringify({ by, ...ends(s) } satisfies Accepted)}\n`);
  s.pipe(s);
}

function dial(o: ConnectOptions): Promise<{ socket?: Socket; result: Connected }> {
  return new Promise((resolve) => {
    const started = performance.now();
    const socket = connect({
      host: o.host,
      port: o.port,
      ...(o.localAddress === undefined ? {} : { localAddress: o.localAddress }),
      ...(o.localPort === undefined ? {} : { localPort: o.localPort }),
    });
    let text = '';
    const end = (r: Omit<Connected, 'ms'>): void => {
      clearTimeout(timer);
      socket.removeAllListeners();
      socket.on('error', () => socket.destroy());
      if (!r.ok) socket.destroy();
      resolve({ ...(r.ok ? { socket } : {}), result: { ...r, ms: performance.now() - started } });
    };
    const timer = setTimeout(() => end({ ok: false, code: 'ETIMEDOUT' }), o.timeoutMs ?? 2000);
    socket.on('error', (e: NodeJS.ErrnoException) => end({ ok: false, code: e.code ?? e.message }));
    socket.on('close', () => end({ ok: false, code: 'ECLOSED' }));
    socket.on('data', (d) => {
      text += String(d);
      if (text.includes('\n')) end({ ok: true, greeting: JSON.parse(text) as Accepted, ...ends(socket) });
    });
  });
}

function line(socket: Socket, text: string): Promise<{ ok: boolean; code?: string }> {
  return new Promise((resolve) => {
    let got = '';
    const end = (r: { ok: boolean; code?: string }): void => {
      clearTimeout(timer);
      socket.off('data', onData).off('close', onClose);
      resolve(r);
    };
    const timer = setTimeout(() => end({ ok: false, code: 'ETIMEDOUT' }), 2000);
    const onClose = (): void => end({ ok: false, code: 'ECLOSED' });
    const onData = (d: Buffer): void => {
      got += String(d);
      if (got.includes('\n')) end({ ok: got === `${text}\n` });
    };
    socket.on('data', onData).on('close', onClose);
    if (socket.destroyed) onClose();
    else socket.write(`${text}\n`);
  });
}

/** Inbound 15006: to the app, with the client's address as source, as ztunnel does. */
async function forward(netnsFd: number, client: Socket, mark: number): Promise<void> {
  client.on('error', () => client.destroy());
  const family = client.localFamily === 'IPv6' && !client.localAddress?.startsWith('::ffff:') ? 6 : 4;
  const plain = (a: string | undefined): string => (a ?? '').replace(/^::ffff:/, '');
  try {
    const fd = await native.netnsConnect(netnsFd, {
      family,
      type: 'tcp',
      mark,
      transparent: true,
      source: { address: plain(client.remoteAddress), port: 0 },
      destination: { address: plain(client.localAddress), port: client.localPort ?? 0 },
      timeoutMs: 2000,
    });
    const app = new Socket({ fd, allowHalfOpen: true });
    app.on('error', () => client.destroy());
    app.on('close', () => client.destroy());
    client.on('close', () => app.destroy());
    client.pipe(app).pipe(client);
  } catch {
    client.destroy();
  }
}

async function serve(o: Commands['serve']['args']): Promise<void> {
  const netnsFd = openSync(o.netns, 'r');
  const list: Server[] = [];
  servers.set(o.name, list);
  for (const port of o.ports) {
    const fd = native.netnsSocket(netnsFd, {
      family: 6,
      type: 'tcp',
      mark: o.mark ?? 0x539,
      transparent: o.transparent ?? true,
      reusePort: true,
      v6only: false,
      bind: { address: '::', port },
      listen: { backlog: 128 },
    });
    const server = createServer({ allowHalfOpen: false }, (s) => {
      if (port === 15006) void forward(netnsFd, s, o.mark ?? 0x539);
      else greet(`${o.name}:${port}`, s);
    });
    await new Promise<void>((resolve, reject) => server.once('error', reject).listen({ fd }, resolve));
    list.push(server);
  }
}

const handlers: { [K in keyof Commands]: (args: Commands[K]['args']) => Promise<Commands[K]['result']> } = {
  listen: ({ name, host, port }) =>
    new Promise((resolve) => {
      const server = createServer((s) => greet(name, s));
      servers.set(name, [server]);
      server.once('error', (e: NodeJS.ErrnoException) => resolve({ code: e.code ?? e.message }));
      server.listen({ host, port }, () => resolve({}));
    }),
  unlisten: async ({ name }) => {
    for (const s of servers.get(name) ?? []) s.close();
    servers.delete(name);
    return {};
  },
  connect: async (o) => {
    const { socket, result } = await dial(o);
    socket?.destroy();
    return result;
  },
  open: async (o) => {
    const { socket, result } = await dial(o);
    if (socket !== undefined) kept.set(o.name, socket);
    return result;
  },
  echo: async ({ name, text }) => {
    const socket = kept.get(name);
    return socket === undefined ? { ok: false, code: 'ENOENT' } : line(socket, text);
  },
  shut: async ({ name }) => {
    kept.get(name)?.destroy();
    kept.delete(name);
    return {};
  },
  load: async (o) => {
    const state = { stop: false, ok: 0, failed: {} as Record<string, number>, done: Promise.resolve() };
    state.done = (async () => {
      while (!state.stop) {
        const { socket, result } = await dial(o);
        socket?.destroy();
        if (result.ok) state.ok++;
        else state.failed[result.code ?? '?'] = (state.failed[result.code ?? '?'] ?? 0) + 1;
        if (o.pauseMs !== undefined) await new Promise((resolve) => setTimeout(resolve, o.pauseMs));
      }
    })();
    loads.set(o.name, state);
    return {};
  },
  stop: async ({ name }) => {
    const state = loads.get(name);
    if (state === undefined) return { ok: 0, failed: {} };
    state.stop = true;
    await state.done;
    return { ok: state.ok, failed: state.failed };
  },
  serve: async (o) => {
    await serve(o);
    return {};
  },
  unserve: async ({ name }) => handlers.unlisten({ name }),
};

if (process.send !== undefined) {
  process.on('message', (m: { id: number; op: keyof Commands; args: never }) => {
    (handlers[m.op] as (args: never) => Promise<unknown>)(m.args).then(
      (result) => process.send?.({ id: m.id, result }),
      (error: unknown) => process.send?.({ id: m.id, error: String(error) }),
    );
  });
  process.on('disconnect', () => process.exit(0));
  process.send({ ready: true });
}
