/** The client's end of one HBONE connection: mTLS to a peer's 15008, HTTP/2 over it, one CONNECT stream per tunnelled connection. */
import { connect as connectHttp2, constants, type ClientHttp2Session, type ClientHttp2Stream, type OutgoingHttpHeaders } from 'node:http2';
import type { Socket } from 'node:net';
import { connect as connectTls, type TLSSocket } from 'node:tls';
import { CulvertError } from '../base/errors.ts';
import { clientSettings, CONNECTION_WINDOW, sessionLimits } from './http2-settings.ts';
import { requireIdentity } from '../identity/spiffe.ts';
import type { WorkloadCertificate } from './workload-certificate.ts';

const HANDSHAKE_TIMEOUT_MS = 10_000;
const PING_EVERY_MS = 10_000;
const PING_TIMEOUT_MS = 20_000;
const MAX_STREAMS = 100;

export class HboneConnection {
  /** proven identity of the peer */
  readonly peer: string;
  readonly #session: ClientHttp2Session;
  /** ms since epoch */
  readonly #expires: number;
  #streams = 0;
  #leaving = false;

  private constructor(session: ClientHttp2Session, peer: string, expires: number, onIdle: () => void, onUnusable: () => void) {
    this.#session = session;
    this.peer = peer;
    this.#expires = expires;
    this.#onIdle = onIdle;
    const leave = (): void => {
      if (this.#leaving) return;
      this.#leaving = true;
      onUnusable();
    };
    session.on('goaway', leave);
    session.once('close', () => {
      clearInterval(heartbeat);
      leave();
    });
    session.on('error', leave); // its streams carry the error to whoever waits for them
    const heartbeat = setInterval(() => {
      this.#ping();
    }, PING_EVERY_MS);
    heartbeat.unref();
  }

  readonly #onIdle: () => void;

  /**
   * @param socket connected to the peer; owned by the connection from here on, closed when it fails
   * @throws PEER_IDENTITY when the peer is somebody else, SYSTEM when TLS or HTTP/2 cannot be set up
   */
  static async open(
    socket: Socket,
    certificate: WorkloadCertificate,
    expected: readonly string[],
    events: { onIdle: () => void; onUnusable: () => void },
  ): Promise<HboneConnection> {
    const { tls, peer, expires } = await handshake(socket, certificate, expected);
    const session = connectHttp2('https://hbone.invalid', { createConnection: () => tls, settings: clientSettings, ...sessionLimits });
    session.once('connect', () => {
      session.setLocalWindowSize(CONNECTION_WINDOW);
    });
    return new HboneConnection(session, peer, expires, events.onIdle, events.onUnusable);
  }

  get streams(): number {
    return this.#streams;
  }

  /**
   * True when another stream may be opened on it. A renewed certificate leaves connections alone, as ztunnel does; but once one of
   * the two certificates that it was made with has expired, nobody vouches for it any more: its streams go on, new ones go elsewhere.
   */
  get available(): boolean {
    const open = !this.#leaving && !this.#session.closed && !this.#session.destroyed;
    return open && this.#streams < this.#capacity() && Date.now() < this.#expires;
  }

  /**
   * One tunnel to `authority`; resolves when the peer has connected it.
   * @throws HBONE_REFUSED with the peer's status; retryable when the connection went away before the peer answered
   */
  connect(authority: string, headers: OutgoingHttpHeaders, signal: AbortSignal): Promise<ClientHttp2Stream> {
    signal.throwIfAborted();
    let stream: ClientHttp2Stream;
    try {
      stream = this.#session.request({ ':method': 'CONNECT', ':authority': authority, ...headers }, { endStream: false });
    } catch (error) {
      return Promise.reject(new CulvertError('HBONE_REFUSED', `open stream to ${authority}`, error, { retryable: true }));
    }
    this.#streams++;
    stream.once('close', () => {
      if (--this.#streams === 0) this.#onIdle();
    });
    return answered(stream, authority, signal);
  }

  /** Lets streams finish, takes no more. */
  close(): void {
    if (!this.#session.closed) this.#session.close();
  }

  destroy(): void {
    this.#session.destroy();
  }

  #capacity(): number {
    const settings = this.#session.remoteSettings as ClientHttp2Session['remoteSettings'] | undefined;
    return Math.min(MAX_STREAMS, settings?.maxConcurrentStreams ?? MAX_STREAMS);
  }

  #ping(): void {
    if (this.#session.destroyed) return;
    const timer = setTimeout(
      () => this.#session.destroy(new CulvertError('SYSTEM', 'peer did not answer a ping'), constants.NGHTTP2_CONNECT_ERROR),
      PING_TIMEOUT_MS,
    );
    timer.unref();
    const sent = this.#session.ping(() => {
      clearTimeout(timer);
    });
    if (!sent) clearTimeout(timer);
  }
}

function handshake(
  socket: Socket,
  certificate: WorkloadCertificate,
  expected: readonly string[],
): Promise<{ tls: TLSSocket; peer: string; expires: number }> {
  return new Promise((resolve, reject) => {
    const tls = connectTls({
      socket,
      secureContext: certificate.context,
      ALPNProtocols: ['h2'],
      rejectUnauthorized: true,
      checkServerIdentity: () => undefined, // no host names here: who it is says its SPIFFE identity, checked below
    });
    const timer = setTimeout(() => {
      fail(new CulvertError('SYSTEM', 'TLS handshake not finished in time'));
    }, HANDSHAKE_TIMEOUT_MS);
    const fail = (error: unknown): void => {
      clearTimeout(timer);
      reject(error instanceof CulvertError ? error : new CulvertError('SYSTEM', 'TLS handshake', error));
      tls.destroy();
    };
    // For good: an error that comes when nobody waits for it any more must not end the process.
    socket.on('error', () => undefined);
    tls.on('error', fail);
    const closed = (): void => {
      fail(new CulvertError('SYSTEM', 'TLS handshake: peer closed the connection'));
    };
    tls.once('close', closed);
    tls.once('secureConnect', () => {
      try {
        if (tls.alpnProtocol !== 'h2') throw new CulvertError('SYSTEM', 'TLS handshake: peer does not speak HTTP/2');
        const presented = tls.getPeerX509Certificate();
        if (presented === undefined) throw new CulvertError('PEER_IDENTITY', 'TLS handshake: peer has no certificate');
        const peer = requireIdentity(presented, expected);
        clearTimeout(timer);
        tls.off('close', closed);
        resolve({ tls, peer, expires: Math.min(certificate.notAfter.getTime(), presented.validToDate.getTime()) });
      } catch (error) {
        fail(error);
      }
    });
  });
}

function answered(stream: ClientHttp2Stream, authority: string, signal: AbortSignal): Promise<ClientHttp2Stream> {
  return new Promise((resolve, reject) => {
    let failure: Error | undefined;
    const giveUp = (): void => {
      stream.close(constants.NGHTTP2_CANCEL);
    };
    const onError = (error: Error): void => {
      failure = error;
    };
    const onClose = (): void => {
      signal.removeEventListener('abort', giveUp);
      if (signal.aborted) reject(signal.reason instanceof Error ? signal.reason : new Error('given up'));
      else
        reject(
          new CulvertError('HBONE_REFUSED', `connect ${authority}: connection lost before the peer answered`, failure, { retryable: true }),
        );
    };
    stream.on('error', onError);
    stream.once('close', onClose);
    signal.addEventListener('abort', giveUp, { once: true });
    stream.once('response', (headers) => {
      stream.off('close', onClose);
      signal.removeEventListener('abort', giveUp);
      const status = headers[':status'];
      if (status !== undefined && status >= 200 && status < 300) {
        resolve(stream);
        return;
      }
      reject(new CulvertError('HBONE_REFUSED', `connect ${authority}: peer answered ${String(status)}`, undefined, { retryable: false }));
      stream.close(constants.NGHTTP2_NO_ERROR);
    });
  });
}
