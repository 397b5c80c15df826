/**
 * The certificates of this node's identities, each fetched once, kept in memory, renewed at half of its life, and forgotten with
 * the last workload that needs it.
 */
import { CulvertError, describe } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import type { CertificateIssuer } from './issuer.ts';
import { obtainCertificate, type WorkloadCertificate } from './workload-certificate.ts';

const LIFETIME_MS = 24 * 3600_000;
const RETRY_FIRST_MS = 1_000;
const RETRY_MAX_MS = 150_000;

export type CertificateState = 'Available' | 'Initializing' | 'Unavailable';

interface Entry {
  identity: string;
  users: number;
  certificate?: WorkloadCertificate;
  fetching?: Promise<WorkloadCertificate>;
  lastError?: unknown;
  failures: number;
  /** before this moment a failed fetch is not repeated, ms since epoch */
  retryAt: number;
  timer?: NodeJS.Timeout;
}

export class Certificates {
  readonly #issuer: CertificateIssuer;
  readonly #log: Logger;
  readonly #lifetimeMs: number;
  readonly #entries = new Map<string, Entry>();
  #closed = false;

  constructor(issuer: CertificateIssuer, log: Logger, lifetimeMs = LIFETIME_MS) {
    this.#issuer = issuer;
    this.#log = log;
    this.#lifetimeMs = lifetimeMs;
  }

  /** Keeps an identity warm until released: fetched now, renewed, its failures retried. */
  retain(identity: string): { release(): void } {
    const entry = this.#entry(identity);
    entry.users++;
    this.get(identity).catch(() => undefined); // logged where it happened, retried by the timer
    let released = false;
    return {
      release: () => {
        if (released) return;
        released = true;
        if (--entry.users === 0) this.#forget(entry);
      },
    };
  }

  /**
   * The current certificate, fetched when there is none. One fetch at a time per identity, whoever asks.
   * @throws CERTIFICATE; for a while after a failure at once, with the same error
   */
  async get(identity: string): Promise<WorkloadCertificate> {
    const entry = this.#entry(identity);
    const { certificate } = entry;
    if (certificate !== undefined && certificate.notAfter.getTime() > Date.now()) return certificate;
    if (entry.fetching === undefined && Date.now() < entry.retryAt) {
      throw new CulvertError('CERTIFICATE', `obtain certificate of ${identity}: waiting before another try`, entry.lastError);
    }
    return this.#fetch(entry);
  }

  list(): { identity: string; state: CertificateState; certificate: WorkloadCertificate | undefined }[] {
    return [...this.#entries.values()].map(({ identity, certificate, lastError }) => {
      const valid = certificate !== undefined && certificate.notAfter.getTime() > Date.now();
      return { identity, state: valid ? 'Available' : lastError === undefined ? 'Initializing' : 'Unavailable', certificate };
    });
  }

  close(): void {
    this.#closed = true;
    for (const entry of this.#entries.values()) this.#forget(entry);
  }

  #entry(identity: string): Entry {
    let entry = this.#entries.get(identity);
    if (entry === undefined) this.#entries.set(identity, (entry = { identity, users: 0, failures: 0, retryAt: 0 }));
    return entry;
  }

  #fetch(entry: Entry): Promise<WorkloadCertificate> {
    entry.fetching ??= this.#obtain(entry).finally(() => {
      delete entry.fetching;
    });
    return entry.fetching;
  }

  async #obtain(entry: Entry): Promise<WorkloadCertificate> {
    try {
      const certificate = await obtainCertificate(this.#issuer, entry.identity, this.#lifetimeMs);
      entry.certificate = certificate;
      entry.failures = 0;
      entry.retryAt = 0;
      delete entry.lastError;
      this.#log.info(
        { identity: entry.identity, serial: certificate.serial, notAfter: certificate.notAfter.toISOString() },
        'certificate obtained',
      );
      this.#schedule(entry, renewalDelay(certificate));
      return certificate;
    } catch (error) {
      const delay = Math.min(RETRY_FIRST_MS * 2 ** entry.failures++, RETRY_MAX_MS);
      entry.lastError = error;
      entry.retryAt = Date.now() + delay;
      this.#log.warn({ identity: entry.identity, error: describe(error), retryInMs: delay }, 'certificate not obtained');
      this.#schedule(entry, delay);
      throw error;
    }
  }

  /** Only identities in use are renewed; one asked for in passing is fetched again when asked for again. */
  #schedule(entry: Entry, delayMs: number): void {
    clearTimeout(entry.timer);
    if (this.#closed) return;
    entry.timer = setTimeout(
      () => {
        if (entry.users > 0) this.#fetch(entry).catch(() => undefined);
        else this.#forget(entry);
      },
      Math.min(delayMs, 2 ** 31 - 1),
    );
    entry.timer.unref();
  }

  #forget(entry: Entry): void {
    clearTimeout(entry.timer);
    if (this.#entries.get(entry.identity) === entry) this.#entries.delete(entry.identity);
  }
}

/** To half of the lifetime, a tenth of it more or less, so that a node's identities do not all renew in one moment. */
function renewalDelay({ notBefore, notAfter }: WorkloadCertificate): number {
  const lifetime = notAfter.getTime() - notBefore.getTime();
  const half = notBefore.getTime() + lifetime / 2;
  return Math.max(half + (Math.random() - 0.5) * 0.1 * lifetime - Date.now(), RETRY_FIRST_MS);
}
