/** The client's end of HBONE against a peer made of Node's own parts: what is on the wire, and what the peer may do to it. */
import { mkdtempSync } from 'node:fs';
import { performServerHandshake, type IncomingHttpHeaders, type ServerHttp2Session, type ServerHttp2Stream } from 'node:http2';
import { connect, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createServer, type Server, type TLSSocket } from 'node:tls';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { HboneConnection } from '../../../src/tunnel/hbone-connection.ts';
import { baggage, forwarded, forwardedHost, traceparent } from '../../../src/tunnel/hbone-headers.ts';
import { serverSettings } from '../../../src/tunnel/http2-settings.ts';
import { createLocalCa, LocalCaIssuer } from '../../../src/tunnel/local-ca.ts';
import { obtainCertificate, type WorkloadCertificate } from '../../../src/tunnel/workload-certificate.ts';
import { workload } from '../../support/state.ts';
import { eventually } from '../../support/tunnel/loopback.ts';

const WEB = 'spiffe://cluster.local/ns/shop/sa/web';
const CLIENT = 'spiffe://cluster.local/ns/shop/sa/client';
const never = new AbortController().signal;
let own: WorkloadCertificate;
let server: Server;
let sessions: ServerHttp2Session[];
let secured: TLSSocket[];
let asked: IncomingHttpHeaders[];
let serve: (stream: ServerHttp2Stream) => void;
let idle: number;

beforeAll(async () => {
  const dir = mkdtempSync(join(tmpdir(), 'cvt-tun-ca-'));
  await createLocalCa(dir);
  own = await obtainCertificate(new LocalCaIssuer(dir), CLIENT, 3600_000);
  const theirs = await obtainCertificate(new LocalCaIssuer(dir), WEB, 3600_000);
  server = createServer({ ...theirs.options, requestCert: true, ALPNProtocols: ['h2'] }, (socket) => {
    secured.push(socket);
    const session = performServerHandshake(socket, { settings: serverSettings });
    session.on('error', () => undefined);
    sessions.push(session);
    session.on('stream', (stream, headers) => {
      stream.on('error', () => undefined);
      asked.push(headers);
      serve(stream);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
});
beforeEach(() => {
  sessions = [];
  secured = [];
  asked = [];
  idle = 0;
  serve = (stream) => stream.respond({ ':status': 200 });
});
afterEach(() => {
  for (const session of sessions) session.destroy();
});
afterAll(() => {
  server.close();
});

async function open(expected = [WEB]): Promise<HboneConnection> {
  const socket = connect((server.address() as AddressInfo).port, '127.0.0.1');
  await new Promise((resolve) => socket.once('connect', resolve));
  return HboneConnection.open(socket, own, expected, { onIdle: () => idle++, onUnusable: () => undefined });
}

describe('on the wire', () => {
  it('is TLS 1.3 with h2, without SNI, and a CONNECT of method and authority with three headers', async () => {
    const connection = await open();
    const headers = {
      baggage: baggage(workload('client', '10.0.0.1')),
      forwarded: forwarded({ ip: 'fd00::1', port: 5 }, 'web.shop.svc'),
      traceparent: traceparent(),
    };
    await connection.connect('10.0.0.2:8080', headers, never);
    expect(secured[0]).toMatchObject({ alpnProtocol: 'h2', servername: false });
    expect(secured[0]?.getProtocol()).toBe('TLSv1.3');
    expect(Object.fromEntries(Object.entries(asked[0]!))).toEqual({ ':method': 'CONNECT', ':authority': '10.0.0.2:8080', ...headers });
    expect(headers.forwarded).toBe('for="[fd00::1]:5";host=web.shop.svc');
    expect(headers.traceparent).toMatch(/^00-[0-9a-f]{32}-[0-9a-f]{16}-00$/);
    expect(connection.peer).toBe(WEB);
    connection.destroy();
  });

  it('takes names that no header could carry, and keeps them apart', async () => {
    const connection = await open();
    const odd = baggage(workload('client', '10.0.0.1', { clusterId: 'east,1=a', canonicalName: 'Ā\nx-other: 1' }));
    await connection.connect('10.0.0.2:8080', { baggage: odd }, never);
    const [cluster, namespace, , service] = String(asked[0]?.['baggage'])
      .split(',')
      .map((entry) => decodeURIComponent(entry.split('=')[1]!));
    expect([cluster, namespace, service]).toEqual(['east,1=a', 'shop', 'Ā\nx-other: 1']);
    connection.destroy();
  });

  it.each([
    ['for="10.0.0.1:5";host=web.shop.svc', 'web.shop.svc'],
    ['host="Web.Shop"', 'web.shop'],
    ['for=x, for=y;host=b', 'b'],
    ['xhost=a', undefined],
    ['host=', undefined],
    [undefined, undefined],
    [['for=a', 'host=b'], 'b'],
  ])('forwarded %j names %s', (value, host) => {
    expect(forwardedHost(value)).toBe(host);
  });
});

describe('the peer', () => {
  it('must be who is expected', async () => {
    await expect(open(['spiffe://cluster.local/ns/shop/sa/other'])).rejects.toMatchObject({ code: 'PEER_IDENTITY' });
  });

  it('may refuse a stream with a status', async () => {
    serve = (stream) => stream.respond({ ':status': 401 }, { endStream: true });
    const connection = await open();
    await expect(connection.connect('10.0.0.2:1', {}, never)).rejects.toMatchObject({
      code: 'HBONE_REFUSED',
      retryable: false,
      message: expect.stringContaining('401') as string,
    });
    expect(connection.available).toBe(true);
    connection.destroy();
  });

  it('may leave by GOAWAY: open streams go on, new ones do not come here', async () => {
    const connection = await open();
    serve = (stream) => {
      stream.respond({ ':status': 200 });
      stream.pipe(stream);
    };
    const stream = await connection.connect('10.0.0.2:1', {}, never);
    sessions[0]?.close();
    await eventually(() => !connection.available);
    stream.end('still here');
    let text = '';
    for await (const chunk of stream) text += String(chunk);
    expect(text).toBe('still here');
    await eventually(() => idle === 1);
  });

  it('may vanish before it answers: that may be tried elsewhere', async () => {
    serve = () => secured[0]?.destroy();
    const connection = await open();
    await expect(connection.connect('10.0.0.2:1', {}, never)).rejects.toMatchObject({ code: 'HBONE_REFUSED', retryable: true });
    expect(connection.available).toBe(false);
  });

  it('is told when we give up waiting', async () => {
    const closed = new Promise<number>((resolve) => {
      serve = (stream) => stream.on('close', () => resolve(stream.rstCode));
    });
    const connection = await open();
    const abort = new AbortController();
    const waiting = connection.connect('10.0.0.2:1', {}, abort.signal);
    await eventually(() => asked.length === 1);
    abort.abort(new Error('application closed'));
    await expect(waiting).rejects.toThrow('application closed');
    expect(await closed).toBe(8); // CANCEL
    connection.destroy();
  });
});
