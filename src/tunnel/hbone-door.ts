/** Takes TCP connections on 15008 through mutual TLS to HTTP/2, and hands each CONNECT stream on. One per pod. */
import { AsyncLocalStorage } from 'node:async_hooks';
import { performServerHandshake, type Http2Session } from 'node:http2';
import type { Socket } from 'node:net';
import { createServer, type Server, type TLSSocket } from 'node:tls';
import { CulvertError } from '../base/errors.ts';
import type { SocketAddress } from '../state/address.ts';
import { requireTrustDomain } from '../identity/spiffe.ts';
import { CONNECTION_WINDOW, serverSettings, sessionLimits } from './http2-settings.ts';
import { serveStream, type HbonePeer } from './inbound-hbone.ts';
import type { Pod } from './pod.ts';
import { localAddress, remoteAddress } from './sockets.ts';
import type { WorkloadCertificate } from './workload-certificate.ts';

const HANDSHAKE_TIMEOUT_MS = 10_000;

interface Ends {
  src: SocketAddress;
  dst: SocketAddress;
  /** of the pod; set before the handshake begins */
  trustDomain: string;
  /** its refusal was logged */
  refused: boolean;
}

export class HboneDoor {
  readonly #pod: Pod;
  #tls: Server | undefined;
  readonly #sessions = new Set<Http2Session>();
  /** A TLS socket that failed has forgotten its peer's address: the ends of the connection travel with its events. */
  readonly #ends = new AsyncLocalStorage<Ends>();
  #certificate: WorkloadCertificate | undefined;
  #destroyed = false;

  constructor(pod: Pod) {
    this.#pod = pod;
  }

  /** Never rejects. */
  async serve(socket: Socket): Promise<void> {
    socket.on('error', () => undefined);
    const ends: Ends = { src: remoteAddress(socket), dst: localAddress(socket), trustDomain: '', refused: false };
    // Node reports a certificate that did not verify from the TCP socket's close, where the context below does not reach.
    socket.once('close', () => {
      this.#ends.enterWith(ends);
    });
    try {
      const { identity, trustDomain } = await this.#pod.workload();
      ends.trustDomain = trustDomain;
      const certificate = await this.#pod.certificates.get(identity);
      if (certificate !== this.#certificate) {
        this.#certificate = certificate;
        this.#server.setSecureContext(certificate.options);
      }
      this.#ends.run(ends, () => this.#server.emit('connection', socket));
    } catch (error) {
      this.#ends.run(ends, () => {
        this.#refuse(error);
      });
      socket.destroy();
    }
  }

  /** GOAWAY on every connection: peers open their next streams elsewhere, open streams go on. */
  drain(): void {
    for (const session of this.#sessions) if (!session.closed) session.close();
  }

  /** Also who is still in the handshake, or waits for our certificate, is not served any more. */
  destroy(): void {
    this.#destroyed = true;
    for (const session of this.#sessions) session.destroy();
  }

  /** Made for the first connection: the start of a pod waits for its listeners, not for a TLS context of a millisecond. */
  get #server(): Server {
    if (this.#tls !== undefined) return this.#tls;
    const server = createServer({
      requestCert: true,
      rejectUnauthorized: true,
      ALPNProtocols: ['h2'],
      handshakeTimeout: HANDSHAKE_TIMEOUT_MS,
    });
    server.on('secureConnection', (socket) => {
      this.#secured(socket);
    });
    server.on('tlsClientError', (error, socket) => {
      this.#refuse(tlsFailure(error, socket));
    });
    return (this.#tls = server);
  }

  #secured(socket: TLSSocket): void {
    socket.on('error', () => undefined);
    const ends = this.#ends.getStore();
    try {
      if (this.#destroyed) throw new CulvertError('SYSTEM', 'pod left before the peer was let in');
      const presented = socket.getPeerX509Certificate();
      if (ends === undefined || presented === undefined) throw new CulvertError('PEER_IDENTITY', 'peer has no certificate');
      if (socket.alpnProtocol !== 'h2') throw new CulvertError('PEER_IDENTITY', 'peer does not offer HTTP/2');
      const identity = requireTrustDomain(presented, ends.trustDomain);
      this.#start(socket, { identity, src: ends.src, dst: ends.dst });
    } catch (error) {
      this.#refuse(error);
      socket.destroy();
    }
  }

  #start(socket: TLSSocket, peer: HbonePeer): void {
    const session = performServerHandshake(socket, { settings: serverSettings, ...sessionLimits });
    this.#sessions.add(session);
    session.setLocalWindowSize(CONNECTION_WINDOW);
    session.on('stream', (stream, headers) => void serveStream(this.#pod, peer, stream, headers));
    session.on('error', (error) => {
      this.#pod.log.debug({ peer: peer.identity, err: error }, 'HBONE connection failed');
    });
    session.once('close', () => this.#sessions.delete(session));
  }

  #refuse(error: unknown): void {
    const ends = this.#ends.getStore();
    if (ends === undefined || ends.refused) return;
    ends.refused = true;
    this.#pod.access.refused({ direction: 'inbound', src: ends.src, dst: ends.dst }, error);
  }
}

/** OpenSSL's sentence without its source lines; a certificate that did not verify says why only on the socket. */
function tlsFailure(error: Error, socket: TLSSocket): CulvertError {
  const unverified = socket.authorizationError as string | Error | null | undefined;
  const { reason } = error as Error & { reason?: string };
  const why =
    unverified === null || unverified === undefined
      ? (reason ?? error.message)
      : typeof unverified === 'string'
        ? unverified
        : unverified.message;
  return new CulvertError('PEER_IDENTITY', `TLS handshake: ${why}`);
}
