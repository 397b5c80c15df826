/** Who and what the HBONE door turns away, each with its reason in the log, and that it goes on serving. */
import { connect as connectHttp2, type ClientHttp2Session, type IncomingHttpHeaders, type IncomingHttpStatusHeader } from 'node:http2';
import { connect as connectTcp, type Server } from 'node:net';
import { connect as connectTls, type SecureContext } from 'node:tls';
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { createLocalCa, LocalCaIssuer } from '../../../src/tunnel/local-ca.ts';
import { obtainCertificate } from '../../../src/tunnel/workload-certificate.ts';
import { workload } from '../../support/state.ts';
import { eventually, listenApp, LoopbackMesh } from '../../support/tunnel/loopback.ts';

const WEB = '127.79.2.1';
let mesh: LoopbackMesh;
let app: Server;

beforeAll(async () => {
  mesh = await LoopbackMesh.create([workload('web', WEB)]);
  app = await listenApp(WEB, 8080, (socket) => socket.end('hello'));
});
afterAll(async () => {
  app.close();
  await mesh.close();
});
beforeEach(() => {
  mesh.access.lines.length = 0;
});

const certificate = (identity: string, lifetimeMs = 3600_000, ca = mesh.caDir) =>
  obtainCertificate(new LocalCaIssuer(ca), identity, lifetimeMs);
const refusal = (): Promise<string> =>
  eventually(() => mesh.access.lines.find(({ message, error }) => message === 'connection failed' && error !== undefined)).then(
    ({ error }) => String(error),
  );

/** Closed by the server, one way or another. */
function tlsUntilClosed(options: { secureContext?: SecureContext; ALPNProtocols?: string[] }): Promise<void> {
  return new Promise((resolve) => {
    const socket = connectTls({ host: WEB, port: 15008, rejectUnauthorized: false, ALPNProtocols: ['h2'], ...options });
    socket.on('error', () => undefined);
    socket.on('close', () => resolve());
    socket.resume();
  });
}

describe('TLS', () => {
  it('needs a client certificate', async () => {
    await tlsUntilClosed({});
    expect(await refusal()).toContain('peer did not return a certificate');
  });

  it('refuses an expired one', async () => {
    const { context } = await certificate('spiffe://cluster.local/ns/shop/sa/client', 2000); // whole seconds count in a certificate
    await new Promise((resolve) => setTimeout(resolve, 3100));
    await tlsUntilClosed({ secureContext: context });
    expect(await refusal()).toContain('CERT_HAS_EXPIRED');
    expect(mesh.access.lines[0]).toMatchObject({ direction: 'inbound', 'dst.addr': `${WEB}:15008` });
  });

  it('refuses another trust domain', async () => {
    const { context } = await certificate('spiffe://evil.example/ns/shop/sa/client');
    await tlsUntilClosed({ secureContext: context });
    expect(await refusal()).toContain('trust domain is evil.example, ours is cluster.local');
  });

  it('refuses another CA', async () => {
    const dir = mkdtempSync(join(tmpdir(), 'cvt-tun-ca-'));
    await createLocalCa(dir);
    const { context } = await certificate('spiffe://cluster.local/ns/shop/sa/client', 3600_000, dir);
    await tlsUntilClosed({ secureContext: context });
    expect(await refusal()).toMatch(/SELF_SIGNED|UNABLE_TO|CERT_SIGNATURE|ISSUER/);
  });

  it('refuses what is not HTTP/2', async () => {
    const { context } = await certificate('spiffe://cluster.local/ns/shop/sa/client');
    await tlsUntilClosed({ secureContext: context, ALPNProtocols: ['http/1.1'] });
    expect(await refusal()).toContain('no application protocol');
  });

  it('refuses garbage and a hang-up, and names the peer', async () => {
    const socket = connectTcp({ host: WEB, port: 15008, localAddress: '127.79.9.9' });
    socket.on('error', () => undefined);
    socket.write('GET / HTTP/1.1\r\n\r\n');
    await new Promise((resolve) => socket.once('close', resolve));
    expect(await refusal()).toContain('TLS handshake: http request');
    expect(String(mesh.access.lines[0]?.['src.addr'])).toMatch(/^127\.79\.9\.9:\d+$/);
  });
});

describe('a pod that leaves', () => {
  it('serves nobody who waited for its certificate', async () => {
    const GONE = '127.79.4.1';
    const { promise: given, resolve: give } = Promise.withResolvers<undefined>();
    let asked = 0;
    const leaving = await LoopbackMesh.create([workload('gone', GONE)], [], {
      issuer: (ca) => ({ sign: async (request) => (asked++, await given, ca.sign(request)) }),
    });
    const { context } = await certificate('spiffe://cluster.local/ns/shop/sa/client', 3600_000, leaving.caDir);
    const raw = connectTcp({ host: GONE, port: 15008 });
    const socket = connectTls({ socket: raw, rejectUnauthorized: false, ALPNProtocols: ['h2'], secureContext: context });
    socket.on('error', () => undefined).resume();
    await new Promise((resolve) => raw.once('connect', resolve));
    await eventually(() => asked === 1);
    await leaving.pods.get('gone')!.proxy.stop();
    give(undefined);
    await new Promise((resolve) => socket.once('close', resolve));
    expect(leaving.access.lines.map(({ error }) => error)).toEqual(['pod left before the peer was let in']);
    await leaving.close();
  });
});

describe('CONNECT', () => {
  let session: ClientHttp2Session;
  beforeEach(async () => {
    const { context } = await certificate('spiffe://cluster.local/ns/shop/sa/client');
    const raw = connectTcp({ host: WEB, port: 15008, localAddress: '127.79.1.1' });
    const socket = connectTls({ socket: raw, rejectUnauthorized: false, ALPNProtocols: ['h2'], secureContext: context });
    await new Promise((resolve) => socket.once('secureConnect', resolve));
    session = connectHttp2('https://web', { createConnection: () => socket });
  });
  afterEach(() => {
    session.destroy();
  });

  const ask = (headers: Record<string, string>): Promise<number> =>
    new Promise((resolve, reject) => {
      const stream = session.request(headers, { endStream: false });
      stream.on('error', reject);
      stream.once('response', (answer: IncomingHttpHeaders & IncomingHttpStatusHeader) => {
        resolve(answer[':status'] ?? 0);
        stream.close();
      });
    });

  it.each([
    ['foreign address', { ':method': 'CONNECT', ':authority': '127.79.3.1:8080' }, 400, 'ip mismatch: 127.79.2.1 != 127.79.3.1'],
    ['host name', { ':method': 'CONNECT', ':authority': 'web.shop:8080' }, 400, 'is no ip:port'],
    ['no port', { ':method': 'CONNECT', ':authority': WEB }, 400, 'is no ip:port'],
    ['other method', { ':method': 'POST', ':path': '/', ':scheme': 'https', ':authority': `${WEB}:8080` }, 400, 'method is POST'],
    ['own door', { ':method': 'CONNECT', ':authority': `${WEB}:15006` }, 503, 'recursive call'],
  ])('%s', async (_name, headers, status, why) => {
    expect(await ask(headers)).toBe(status);
    expect(await refusal()).toContain(why);
  });

  it('says 503 where nobody listens, and then serves the next', async () => {
    expect(await ask({ ':method': 'CONNECT', ':authority': `${WEB}:9` })).toBe(503);
    const odd = { baggage: '=,;==%zz,a', forwarded: ';;for="x;host=,,' };
    expect(await ask({ ':method': 'CONNECT', ':authority': `${WEB}:8080`, ...odd })).toBe(200);
  });
});
