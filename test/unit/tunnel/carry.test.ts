/** Connections through two pods' proxies: mutual TLS, CONNECT and copying are real, the netns are not. */
import { createHash, randomBytes } from 'node:crypto';
import type { Server, Socket } from 'node:net';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { endpointOf, service, workload } from '../../support/state.ts';
import { eventually, listenApp, LoopbackMesh, readAll } from '../../support/tunnel/loopback.ts';

const CLIENT = '127.77.1.1';
const WEB = '127.77.2.1';
const PLAIN = '127.77.3.1';
let mesh: LoopbackMesh;
const apps: Server[] = [];
const seen: Socket[] = [];
const clients: (string | undefined)[] = [];

beforeAll(async () => {
  const services = [service({ vips: ['127.77.9.9'] }), service({ name: 'none', vips: ['127.77.9.8'] })];
  mesh = await LoopbackMesh.create([workload('client', CLIENT), workload('web', WEB, endpointOf())], services);
  const app = (ip: string, port: number, serve: (socket: Socket) => void): Promise<unknown> =>
    listenApp(ip, port, serve).then((server) => apps.push(server));
  await app(WEB, 8080, (socket) => {
    seen.push(socket);
    clients.push(socket.remoteAddress);
    socket.pipe(socket);
  });
  await app(WEB, 8081, (socket) => socket.write('welcome\n'));
  await app(WEB, 8082, (socket) => void readAll(socket).then((text) => socket.end(`got ${String(text.length)}`)));
  await app(WEB, 8083, (socket) => socket.once('data', () => socket.resetAndDestroy()));
  await app(WEB, 8084, (socket) => {
    const hash = createHash('sha256');
    socket.on('data', (chunk: Buffer) => hash.update(chunk));
    socket.on('end', () => socket.end(hash.digest('hex')));
  });
  await app(PLAIN, 8080, (socket) => socket.pipe(socket));
});

afterAll(async () => {
  await mesh.close();
  for (const app of apps) app.close();
});

const target = (port: number, ip = WEB): { ip: string; port: number } => ({ ip, port });

describe('through HBONE', () => {
  it('carries both ways, keeps the client address, and both logs name both identities', async () => {
    mesh.access.lines.length = 0;
    const socket = await mesh.dial('client', target(8080));
    socket.end('hello');
    expect(await readAll(socket)).toBe('hello');
    expect(clients.at(-1)).toBe(CLIENT);
    const lines = await eventually(() => {
      const complete = mesh.access.lines.filter(({ message }) => message === 'connection complete');
      return complete.length === 2 && complete;
    });
    const identities = {
      'src.identity': 'spiffe://cluster.local/ns/shop/sa/client',
      'dst.identity': 'spiffe://cluster.local/ns/shop/sa/web',
    };
    const names = {
      'src.workload': 'client',
      'src.namespace': 'shop',
      'dst.workload': 'web',
      'dst.namespace': 'shop',
      'dst.addr': `${WEB}:15008`,
      'dst.hbone_addr': `${WEB}:8080`,
    };
    expect(lines.find(({ direction }) => direction === 'outbound')).toMatchObject({
      ...identities,
      ...names,
      bytes_sent: 5,
      bytes_recv: 5,
    });
    expect(lines.find(({ direction }) => direction === 'inbound')).toMatchObject({ ...identities, ...names, bytes_sent: 5, bytes_recv: 5 });
    for (const line of lines) expect(line).not.toHaveProperty('error');
  });

  it('reaches a service by its virtual address, and names it in both logs', async () => {
    mesh.access.lines.length = 0;
    const socket = await mesh.dial('client', target(80, '127.77.9.9'));
    socket.end('x');
    expect(await readAll(socket)).toBe('x');
    await eventually(
      () =>
        mesh.access.lines.filter(
          (line) => line['dst.service'] === 'web.shop.svc.cluster.local' && line['message'] === 'connection complete',
        ).length === 2,
    );
  });

  it('lets the server speak first', async () => {
    const socket = await mesh.dial('client', target(8081));
    const text = await new Promise<string>((resolve) => socket.once('data', (chunk: Buffer) => resolve(chunk.toString())));
    expect(text).toBe('welcome\n');
    socket.destroy();
  });

  it('keeps a half-closed connection open the other way', async () => {
    const socket = await mesh.dial('client', target(8082));
    socket.write('a'.repeat(1000));
    await new Promise((resolve) => setTimeout(resolve, 50));
    socket.end();
    expect(await readAll(socket)).toBe('got 1000');
  });

  it("passes the application's reset to the client", async () => {
    const socket = await mesh.dial('client', target(8083));
    const failed = new Promise<NodeJS.ErrnoException>((resolve) => socket.once('error', resolve));
    socket.write('x');
    socket.resume();
    expect((await failed).code).toBe('ECONNRESET');
  });

  it("passes the client's reset to the application", async () => {
    const socket = await mesh.dial('client', target(8080));
    socket.write('x');
    await new Promise((resolve) => socket.once('data', resolve));
    const app = seen.at(-1)!;
    const failed = new Promise<NodeJS.ErrnoException>((resolve) => app.once('error', resolve));
    socket.resetAndDestroy();
    expect((await failed).code).toBe('ECONNRESET');
  });

  it('carries an end that came before the peer was connected', async () => {
    const socket = await mesh.dial('client', target(8082));
    socket.end();
    expect(await readAll(socket)).toBe('got 0');
  });

  it('stops the sender while the receiver does not read, and loses nothing', async () => {
    const data = randomBytes(48 * 1024 * 1024);
    const slow = await listenApp(WEB, 8085, (socket) => {
      socket.pause();
      const hash = createHash('sha256');
      socket.on('data', (chunk: Buffer) => hash.update(chunk));
      socket.on('end', () => socket.end(hash.digest('hex')));
      socket.pause();
      setTimeout(() => socket.resume(), 1500);
    });
    apps.push(slow);
    const before = process.memoryUsage();
    const socket = await mesh.dial('client', target(8085));
    socket.write(data);
    socket.end();
    await new Promise((resolve) => setTimeout(resolve, 1200));
    const after = process.memoryUsage();
    expect(after.external - before.external).toBeLessThan(32 * 1024 * 1024);
    expect(await readAll(socket)).toBe(createHash('sha256').update(data).digest('hex'));
  });

  it('answers a refused application with a reset, and says why', async () => {
    mesh.access.lines.length = 0;
    const socket = await mesh.dial('client', target(9));
    await new Promise((resolve) => socket.once('close', resolve));
    const errors = await eventually(() => {
      const failed = mesh.access.lines.filter(({ error }) => error !== undefined);
      return failed.length === 2 && failed;
    });
    expect(errors.find(({ direction }) => direction === 'inbound')?.['error']).toContain('ECONNREFUSED');
    expect(errors.find(({ direction }) => direction === 'outbound')?.['error']).toContain('503');
  });
});

describe('not through HBONE', () => {
  it('passes unknown destinations on as they are', async () => {
    mesh.access.lines.length = 0;
    const socket = await mesh.dial('client', target(8080, PLAIN));
    socket.end('plain');
    expect(await readAll(socket)).toBe('plain');
    const line = await eventually(() => mesh.access.lines.find(({ message }) => message === 'connection complete'));
    expect(line).toMatchObject({ direction: 'outbound', 'dst.addr': `${PLAIN}:8080` });
    expect(line).not.toHaveProperty('dst.identity');
  });

  it('says that a service has no healthy upstream', async () => {
    mesh.access.lines.length = 0;
    await mesh.dial('client', target(80, '127.77.9.8')).catch(() => undefined); // the reset may be there before the test looks
    await eventually(() => mesh.access.lines.some(({ error }) => error === 'no healthy upstream'));
  });

  it('refuses to call itself on loopback', async () => {
    for (const port of [15001, 15006, 15008]) {
      const socket = await mesh.dial('client', target(port, '127.0.0.1'));
      expect(await readAll(socket)).toBe('');
    }
    expect(mesh.access.lines.filter(({ error }) => String(error).includes('recursive call'))).toHaveLength(3);
  });
});
