/** Certificates that live for seconds: nothing that is open is dropped, nothing that is dialled fails, nothing expired is used. */
import type { Server, Socket } from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import { CulvertError } from '../../../src/base/errors.ts';
import { workload } from '../../support/state.ts';
import { eventually, listenApp, LoopbackMesh, readAll } from '../../support/tunnel/loopback.ts';

const CLIENT = '127.81.1.1';
const WEB = '127.81.2.1';
const target = { ip: WEB, port: 8080 };
const identity = (name: string): string => `spiffe://cluster.local/ns/shop/sa/${name}`;
let mesh: LoopbackMesh;
let app: Server;

async function start(certificateLifetimeMs: number, away = (): boolean => false): Promise<void> {
  mesh = await LoopbackMesh.create([workload('client', CLIENT), workload('web', WEB)], [], {
    certificateLifetimeMs,
    issuer: (ca) => ({
      sign: (request) => (away() ? Promise.reject(new CulvertError('CERTIFICATE', 'CA is away')) : ca.sign(request)),
    }),
  });
  app = await listenApp(WEB, target.port, (socket) => socket.pipe(socket));
}
afterEach(async () => {
  app.close();
  await mesh.close();
});

async function echo(socket: Socket, text: string): Promise<string> {
  return new Promise<string>((resolve, reject) => {
    const dropped = (): void => reject(new Error('the connection was dropped'));
    socket.once('close', dropped);
    socket.once('data', (chunk: Buffer) => {
      socket.off('close', dropped);
      resolve(chunk.toString());
    });
    socket.write(text);
  });
}

async function once(text: string): Promise<string> {
  const socket = await mesh.dial('client', target);
  socket.end(text);
  return readAll(socket);
}

function certificateOf(name: string) {
  return mesh.env.certificates.list().find((one) => one.identity === identity(name))!;
}

describe('rotation', () => {
  it('drops no connection, and new ones never fail, past the end of the first certificates', async () => {
    await start(3000);
    const kept = await mesh.dial('client', target);
    expect(await echo(kept, 'begin')).toBe('begin');
    const first = ['client', 'web'].map((name) => certificateOf(name).certificate!);
    const serials = new Set<string>();
    const end = Math.max(...first.map(({ notAfter }) => notAfter.getTime()));
    let dialled = 0;
    while (serials.size < 3 || Date.now() <= end) {
      expect(await once(`number ${String(++dialled)}`)).toBe(`number ${String(dialled)}`);
      expect(await echo(kept, 'still here')).toBe('still here');
      serials.add(certificateOf('web').certificate!.serial);
    }
    kept.end();
    expect(await readAll(kept)).toBe('');
    const failed = mesh.access.lines.filter(({ error }) => error !== undefined);
    expect(failed).toEqual([]);
  });

  it('that does not come leaves open connections alone, refuses new ones at the end, and takes them again when it comes', async () => {
    let away = false;
    await start(1500, () => away);
    const kept = await mesh.dial('client', target);
    expect(await echo(kept, 'begin')).toBe('begin');
    away = true;
    await eventually(() => ['client', 'web'].every((name) => certificateOf(name).state === 'Unavailable'), 5000);
    expect(await echo(kept, 'still here')).toBe('still here');
    expect(await once('lost').catch(() => 'reset')).toBe('reset'); // not through the connection that is pooled, either
    expect(mesh.access.lines.some(({ error }) => String(error).includes('CA is away'))).toBe(true);
    away = false;
    await eventually(() => ['client', 'web'].every((name) => certificateOf(name).state === 'Available'), 5000);
    expect(await once('again')).toBe('again');
    kept.destroy();
  });
});
