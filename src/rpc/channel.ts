/**
 * The connection to a control plane: gRPC over TLS, a bearer token per call. Roots and token are files that are rotated under us, so
 * both are read when they are needed.
 */
import { Client, connectivityState, Metadata } from '@grpc/grpc-js';
import { readFile } from 'node:fs/promises';
import { CulvertError, describe } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import { parseControlPlaneAddress, type ControlPlaneAddress } from './address.ts';
import { ControlPlaneCredentials } from './credentials.ts';
import { readRoots, type Roots } from './roots.ts';

export interface ControlPlaneOptions {
  /** "https://host:port" or "host:port" */
  address: string;
  /** path of a PEM file with the trusted roots (may hold several), or "SYSTEM" */
  rootCert: string;
  /** path of a bearer token, read anew for every call (rotated by kubelet); undefined: no authorization header */
  tokenFile?: string;
  clusterId: string;
  /** accepted in the server's certificate when it does not carry the address's host (ALT_XDS_HOSTNAME, ALT_CA_HOSTNAME) */
  serverName?: string;
  /** further headers (XDS_HEADER_*, CA_HEADER_*) */
  headers?: Record<string, string>;
}

/** Istio's bound: a first response holds the whole mesh. */
const MAX_MESSAGE_BYTES = 200 * 1024 * 1024;
/**
 * A window of 64 KiB would make a large first response wait for every round trip; one of some MB costs the control plane as much
 * memory for each tunnel after such a response (measured with 200: 1.1 GB with 4 MiB, 390 MB with 512 KiB).
 */
const WINDOW_BYTES = 512 * 1024;
/** A channel that cannot connect is made anew for the next call, but not more often than this: the callers have back-offs of their own. */
const REDIAL_MS = 1000;
/** How long connections may take to say goodbye. */
const GOODBYE_MS = 200;

const OPTIONS = {
  'grpc.max_receive_message_length': MAX_MESSAGE_BYTES,
  'grpc.max_send_message_length': MAX_MESSAGE_BYTES,
  'grpc-node.flow_control_window': WINDOW_BYTES,
  // A peer that died silently is noticed within 30 s. istiod refuses pings more often than every 15 s.
  'grpc.keepalive_time_ms': 20_000,
  'grpc.keepalive_timeout_ms': 10_000,
  'grpc.initial_reconnect_backoff_ms': 100,
  'grpc.max_reconnect_backoff_ms': 15_000,
  'grpc.dns_min_time_between_resolutions_ms': 1000,
  // Several replicas behind one name: one is used, and the next when it is gone. grpc-js shuffles three addresses and more, two it
  // leaves in the resolver's order; behind a ClusterIP it sees one only, and the service spreads the nodes.
  'grpc.service_config': JSON.stringify({ loadBalancingConfig: [{ pick_first: { shuffleAddressList: true } }] }),
  'grpc.service_config_disable_resolution': 1,
  // Nothing shared: closing one channel must not depend on another.
  'grpc.use_local_subchannel_pool': 1,
  // Callers retry, with fresh roots and token; a second copy of large messages would only cost memory.
  'grpc.enable_retries': 0,
  'grpc.enable_http_proxy': 0,
  'grpc.enable_channelz': 0,
};

interface Connected {
  client: Client;
  credentials: ControlPlaneCredentials;
  roots: Roots;
  /** ms, monotonic */
  since: number;
}

export class ControlPlaneChannel {
  readonly address: ControlPlaneAddress;
  readonly #options: ControlPlaneOptions;
  readonly #log: Logger;
  #current: Connected | undefined;
  /** replaced ones whose calls may still run */
  readonly #retired = new Set<Connected>();
  /** why the roots file is not used at present */
  #refused: string | undefined;
  #closed = false;

  /** @throws CONFIG_INVALID for an address or header that can never work */
  constructor(options: ControlPlaneOptions, log: Logger) {
    this.address = parseControlPlaneAddress(options.address);
    this.#options = options;
    this.#log = log;
    this.#headers();
  }

  /**
   * A client over the current roots. Roots that changed to something unreadable are warned about and the ones before stay in use.
   * @throws XDS when there are no roots to begin with (names the path), or the channel is closed
   */
  async client(): Promise<Client> {
    const connected = await this.#connected();
    return connected.client;
  }

  /** authorization: Bearer <token>, clusterid, further headers. @throws XDS when the token cannot be read (names the path) */
  async metadata(): Promise<Metadata> {
    const metadata = this.#headers();
    const { tokenFile } = this.#options;
    if (tokenFile === undefined) return metadata;
    let token: string;
    try {
      token = (await readFile(tokenFile, 'utf8')).trim();
    } catch (error) {
      throw new CulvertError('XDS', `read token ${tokenFile}`, error);
    }
    // The token itself must not get into a message.
    if (!/^[\x21-\x7e]+$/.test(token))
      throw new CulvertError('XDS', `read token ${tokenFile}: ${token === '' ? 'empty' : 'no token in it'}`);
    metadata.set('authorization', `Bearer ${token}`);
    return metadata;
  }

  /** Calls that still run are cut off. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    if (this.#current !== undefined) this.#retire(this.#current);
    const retired = [...this.#retired];
    setTimeout(() => {
      for (const { credentials } of retired) credentials.destroy();
    }, GOODBYE_MS).unref();
  }

  async #connected(): Promise<Connected> {
    const roots = await this.#roots();
    if (this.#closed) throw new CulvertError('XDS', `connect to ${this.address.url}: closed`);
    const current = this.#current;
    if (current !== undefined) {
      if (current.roots.text === roots.text && !stuck(current)) return current;
      this.#retire(current);
    }
    const { rootCert: rootsFrom, serverName } = this.#options;
    const credentials = new ControlPlaneCredentials({ address: this.address, context: roots.context, rootsFrom, serverName });
    const client = new Client(this.address.target, credentials, OPTIONS);
    this.#current = { client, credentials, roots, since: performance.now() };
    return this.#current;
  }

  /** What the file holds; what is in use when that cannot be trusted, warned about once. */
  async #roots(): Promise<Roots> {
    try {
      const roots = await readRoots(this.#options.rootCert, this.#current?.roots);
      this.#refused = undefined;
      return roots;
    } catch (error) {
      if (this.#current === undefined) throw error;
      const reason = describe(error);
      if (reason !== this.#refused) this.#log.warn({ error: reason }, 'roots not taken up, the ones before stay in use');
      this.#refused = reason;
      return this.#current.roots;
    }
  }

  /** Running calls go on; the connection ends with the last of them. */
  #retire(connected: Connected): void {
    connected.client.close();
    connected.credentials.retire();
    for (const other of this.#retired) if (other.credentials.idle) this.#retired.delete(other);
    this.#retired.add(connected);
    if (this.#current === connected) this.#current = undefined;
  }

  #headers(): Metadata {
    const metadata = new Metadata();
    try {
      for (const [name, value] of Object.entries(this.#options.headers ?? {})) metadata.set(name, value);
      if (this.#options.clusterId !== '') metadata.set('clusterid', this.#options.clusterId);
    } catch (error) {
      throw new CulvertError('CONFIG_INVALID', 'read headers for the control plane', error);
    }
    return metadata;
  }
}

/** Waits out grpc's own back-off without need: the caller has waited already. */
function stuck({ client, since }: Connected): boolean {
  return client.getChannel().getConnectivityState(false) === connectivityState.TRANSIENT_FAILURE && performance.now() - since >= REDIAL_MS;
}
