/** The gRPC server of control: TLS with a certificate that may change under it, and an end that comes in time. */
import { experimental, Server, type MethodDefinition, type ServerOptions, type UntypedHandleCall } from '@grpc/grpc-js';
import { CulvertError } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';

export interface TlsIdentity {
  /** PEM, leaf first */
  certificate: string;
  /** PEM */
  key: string;
}

export interface TlsSource {
  readonly current: TlsIdentity;
  /** Told after each change of `current`. */
  onChange(listener: () => void): { close(): void };
}

export interface Method {
  // What the messages are is between a definition and its handler.
  // eslint-disable-next-line @typescript-eslint/no-explicit-any
  definition: MethodDefinition<any, any>;
  handler: UntypedHandleCall;
}

export interface ControlServerOptions {
  /** "host:port", "[v6]:port" or ":port"; port 0 for any */
  address: string;
  methods: readonly Method[];
  tls: TlsSource;
  log: Logger;
}

/** Requests are small: subscriptions of a whole mesh by name at most. */
const MAX_REQUEST_BYTES = 16 * 1024 * 1024;

const OPTIONS: ServerOptions = {
  'grpc.max_receive_message_length': MAX_REQUEST_BYTES,
  'grpc.max_send_message_length': -1,
  'grpc.max_concurrent_streams': 1000,
  // A peer that vanished without a word is noticed within 40 s.
  'grpc.keepalive_time_ms': 30_000,
  'grpc.keepalive_timeout_ms': 10_000,
};

export class ControlServer {
  readonly #server = new Server(OPTIONS);
  readonly #options: ControlServerOptions;

  constructor(options: ControlServerOptions) {
    this.#options = options;
    for (const { definition, handler } of options.methods) {
      this.#server.addService({ [definition.path]: definition }, { [definition.path]: handler });
    }
  }

  /** @returns the port @throws SYSTEM when the address cannot be had */
  async start(): Promise<number> {
    const { address, tls, log } = this.#options;
    const at = address.startsWith(':') ? `[::]${address}` : address;
    const credentials = experimental.createCertificateProviderServerCredentials(new IdentityProvider(tls), null, false);
    const port = await new Promise<number>((resolve, reject) => {
      this.#server.bindAsync(at, credentials, (error, bound) => {
        if (error === null) resolve(bound);
        else reject(new CulvertError('SYSTEM', `listen at ${address}`, error));
      });
    });
    log.info({ address, port }, 'listening');
    return port;
  }

  /** No new connections; calls may end within the deadline, then they are cut. Resolves when all is closed. */
  async close(deadlineMs: number): Promise<void> {
    await new Promise<void>((resolve) => {
      const late = setTimeout(() => this.#server.forceShutdown(), deadlineMs);
      this.#server.tryShutdown((error) => {
        clearTimeout(late);
        if (error !== undefined) this.#options.log.debug({ err: error }, 'server closed');
        resolve();
      });
    });
  }
}

/** Hands the certificate to grpc-js, which gives it to its listening sockets: connections that stand keep theirs. */
class IdentityProvider implements experimental.CertificateProvider {
  readonly #tls: TlsSource;
  readonly #watches = new Map<experimental.IdentityCertificateUpdateListener, { close(): void }>();

  constructor(tls: TlsSource) {
    this.#tls = tls;
  }

  addIdentityCertificateListener(listener: experimental.IdentityCertificateUpdateListener): void {
    const tell = (): void => {
      const { certificate, key } = this.#tls.current;
      listener({ certificate: Buffer.from(certificate), privateKey: Buffer.from(key) });
    };
    this.#watches.set(listener, this.#tls.onChange(tell));
    // Not at once: grpc-js adds its own watcher of the outcome after this call.
    queueMicrotask(tell);
  }

  removeIdentityCertificateListener(listener: experimental.IdentityCertificateUpdateListener): void {
    this.#watches.get(listener)?.close();
    this.#watches.delete(listener);
  }

  /** Callers show tokens, not certificates. */
  addCaCertificateListener(): void {
    // nothing to tell
  }

  removeCaCertificateListener(): void {
    // nothing was told
  }
}
