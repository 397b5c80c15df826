/**
 * TLS towards a control plane. grpc-js' own credentials give an IP address as SNI, wait for ever for a silent server, leave its socket
 * behind, and say little when a certificate is refused; these do not.
 */
import { CallCredentials, ChannelCredentials } from '@grpc/grpc-js';
import { isIP, type Socket } from 'node:net';
import { checkServerIdentity, connect, type PeerCertificate, type SecureContext, type TLSSocket } from 'node:tls';
import { CulvertError } from '../base/errors.ts';
import type { ControlPlaneAddress } from './address.ts';

const HANDSHAKE_MS = 10_000;

type SecureConnector = ReturnType<ChannelCredentials['_createSecureConnector']>;

export interface PeerRules {
  address: ControlPlaneAddress;
  context: SecureContext;
  /** where the roots are from, for messages */
  rootsFrom: string;
  /** accepted beside the address's host */
  serverName: string | undefined;
}

export class ControlPlaneCredentials extends ChannelCredentials {
  readonly #rules: PeerRules;
  readonly #dialling = new Set<Socket>();
  readonly #open = new Set<Socket>();
  #retired = false;

  constructor(rules: PeerRules) {
    super();
    this.#rules = rules;
  }

  get idle(): boolean {
    return this.#open.size === 0;
  }

  /** No new connections; grpc-js forgets those that are under way when its client closes, so they end here. */
  retire(): void {
    this.#retired = true;
    for (const socket of this.#dialling) socket.destroy();
  }

  /** Ends the connections that are left. */
  destroy(): void {
    this.retire();
    for (const socket of this.#open) socket.destroy();
  }

  override _isSecure(): boolean {
    return true;
  }

  override _equals(other: ChannelCredentials): boolean {
    return this === other;
  }

  override _createSecureConnector(_target: unknown, _options: unknown, callCredentials?: CallCredentials): SecureConnector {
    return {
      connect: (socket) => this.#connect(socket),
      waitForReady: () => Promise.resolve(),
      getCallCredentials: () => callCredentials ?? CallCredentials.createEmpty(),
      destroy: () => undefined,
    };
  }

  async #connect(raw: Socket): Promise<{ socket: Socket; secure: boolean }> {
    if (this.#retired) raw.destroy();
    this.#dialling.add(raw);
    try {
      const socket = await handshake(raw, this.#rules);
      this.#open.add(socket);
      socket.once('close', () => this.#open.delete(socket));
      return { socket, secure: true };
    } finally {
      this.#dialling.delete(raw);
    }
  }
}

/** @throws XDS naming the address and why its server is not trusted */
function handshake(raw: Socket, rules: PeerRules): Promise<TLSSocket> {
  const { address, context, rootsFrom, serverName } = rules;
  return new Promise((resolve, reject) => {
    const refuse = (why: string, cause?: Error): void => {
      clearTimeout(timer);
      socket.destroy();
      raw.destroy();
      reject(new CulvertError('XDS', `connect to ${address.url}: ${why}`, cause));
    };
    const socket = connect({
      socket: raw,
      secureContext: context,
      host: address.host,
      ...(isIP(address.host) === 0 ? { servername: address.host } : {}), // SNI carries names only
      ALPNProtocols: ['h2'],
      checkServerIdentity: (_name, certificate) => checkName(certificate, address.host, serverName),
    });
    const timer = setTimeout(() => refuse(`no TLS answer within ${HANDSHAKE_MS / 1000} s`), HANDSHAKE_MS);
    timer.unref();
    socket.once('secureConnect', () => {
      clearTimeout(timer);
      resolve(socket);
    });
    socket.once('close', () => refuse('connection closed during the TLS handshake'));
    socket.on('error', (error: NodeJS.ErrnoException) => {
      // grpc-js passes on nothing but our text. Node's, for a missing root, gives advice that is none here.
      const { code, message } = error;
      const untrusted = code !== undefined && UNTRUSTED.has(code);
      refuse(untrusted ? `its certificate does not lead to a root in ${rootsFrom} (${code})` : `TLS handshake: ${message}`, error);
    });
  });
}

/** What OpenSSL says when no root of ours signed the chain. */
const UNTRUSTED = new Set([
  'UNABLE_TO_VERIFY_LEAF_SIGNATURE',
  'UNABLE_TO_GET_ISSUER_CERT',
  'UNABLE_TO_GET_ISSUER_CERT_LOCALLY',
  'SELF_SIGNED_CERT_IN_CHAIN',
  'DEPTH_ZERO_SELF_SIGNED_CERT',
  'CERT_SIGNATURE_FAILURE',
]);

/** As ztunnel: the address's host, or else the name told (ALT_XDS_HOSTNAME, ALT_CA_HOSTNAME). */
function checkName(certificate: PeerCertificate, host: string, serverName: string | undefined): Error | undefined {
  const mismatch = checkServerIdentity(host, certificate);
  if (mismatch === undefined || serverName === undefined) return mismatch;
  return checkServerIdentity(serverName, certificate);
}
