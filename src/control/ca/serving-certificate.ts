/** The certificate that control's own server shows: signed by its own authority, renewed at half of its life and when the signer changes. */
import { X509Certificate } from 'node:crypto';
import { isIP } from 'node:net';
import { describe } from '../../base/errors.ts';
import type { Logger } from '../../base/log.ts';
import { generateKeys, privateKeyPem, type x509 } from '../../identity/x509.ts';
import type { TlsIdentity, TlsSource } from '../server.ts';
import type { Authority } from './authority.ts';

const LIFETIME_MS = 24 * 3600_000;
const RETRY_MS = { first: 1000, most: 60_000 };

/** Under which callers reach control: its own Service, or the name that Istio's tunnels call unless told. */
const NAMES = ['istiod.istio-system.svc', 'localhost', '127.0.0.1', '::1'];

/** @param more further DNS names and addresses */
export function servingNames(service: string, namespace: string, clusterDomain: string, more: readonly string[] = []): string[] {
  const own = [service, `${service}.${namespace}`, `${service}.${namespace}.svc`, `${service}.${namespace}.svc.${clusterDomain}`];
  return [...new Set([...own, ...NAMES, ...more])];
}

export interface ServingOptions {
  authority: Authority;
  /** DNS names and IP addresses */
  names: readonly string[];
  log: Logger;
  lifetimeMs?: number;
}

export class ServingCertificate implements TlsSource {
  readonly #options: ServingOptions;
  readonly #listeners = new Set<() => void>();
  readonly #watch: { close(): void };
  #current: TlsIdentity | undefined;
  #timer: NodeJS.Timeout | undefined;
  #retryMs = RETRY_MS.first;
  /** the latest attempt; an older one that ends later changes nothing */
  #attempt = 0;
  #closed = false;

  /** @throws CERTIFICATE when there cannot be one now */
  static async obtain(options: ServingOptions): Promise<ServingCertificate> {
    const certificate = new ServingCertificate(options);
    try {
      await certificate.#renew();
    } catch (error) {
      certificate.close();
      throw error;
    }
    return certificate;
  }

  private constructor(options: ServingOptions) {
    this.#options = options;
    this.#watch = options.authority.onChange(() => void this.#tryRenew());
  }

  get current(): TlsIdentity {
    if (this.#current === undefined) throw new Error('the serving certificate was not obtained');
    return this.#current;
  }

  onChange(listener: () => void): { close(): void } {
    this.#listeners.add(listener);
    return { close: () => this.#listeners.delete(listener) };
  }

  close(): void {
    this.#closed = true;
    this.#watch.close();
    clearTimeout(this.#timer);
  }

  async #tryRenew(): Promise<void> {
    if (this.#closed) return;
    try {
      await this.#renew();
    } catch (error) {
      this.#options.log.error({ err: error, retryMs: this.#retryMs }, `renew serving certificate: ${describe(error)}`);
      this.#schedule(this.#retryMs);
      this.#retryMs = Math.min(this.#retryMs * 2, RETRY_MS.most);
    }
  }

  async #renew(): Promise<void> {
    const attempt = ++this.#attempt;
    const { authority, names, log, lifetimeMs = LIFETIME_MS } = this.#options;
    const keys = await generateKeys();
    const signed = await authority.signServer(keys.publicKey, generalNames(names), lifetimeMs);
    const key = await privateKeyPem(keys.privateKey);
    if (attempt !== this.#attempt || this.#closed) return;
    this.#current = { certificate: signed.chain.join(''), key };
    this.#retryMs = RETRY_MS.first;
    const leaf = new X509Certificate(signed.chain[0] ?? '');
    // The authority may have given less than was asked for.
    this.#schedule((leaf.validToDate.getTime() - Date.now()) / 2);
    log.info({ serial: leaf.serialNumber, notAfter: leaf.validToDate.toISOString() }, 'serving certificate renewed');
    for (const listener of [...this.#listeners]) listener();
  }

  #schedule(ms: number): void {
    clearTimeout(this.#timer);
    if (this.#closed) return;
    this.#timer = setTimeout(() => void this.#tryRenew(), Math.max(ms, 100)).unref();
  }
}

function generalNames(names: readonly string[]): x509.JsonGeneralNames {
  return names.map((value) => ({ type: isIP(value) === 0 ? ('dns' as const) : ('ip' as const), value }));
}
