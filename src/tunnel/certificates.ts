/**
 * The certificates of this node's identities, each fetched once, kept in memory, renewed at half of its life, and forgotten with
 * the last workload that needs it. An issuer that is away costs nothing until a certificate expires: the one at hand stays in use.
 */
import { CulvertError, describe } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import type { CertificateIssuer } from './issuer.ts';
import { IssuerHealth, isOutage } from './issuer-health.ts';
import { renewalDelay, retryDelay } from './renewal.ts';
import { UrgentFirst, type Urgency } from './urgent-first.ts';
import { obtainCertificate, type WorkloadCertificate } from './workload-certificate.ts';

const LIFETIME_MS = 24 * 3600_000;
/** Requests under way at once, as ztunnel's. */
const CONCURRENCY = 8;
/** A connection that needs a certificate does not wait for the next try of a long back-off, but does not try more often than this. */
const CONNECTION_RETRY_MS = 5_000;
const TIMER_MAX_MS = 2 ** 31 - 1;

export type CertificateState = 'Available' | 'Initializing' | 'Unavailable';

export interface CertificateStatus {
  identity: string;
  state: CertificateState;
  certificate: WorkloadCertificate | undefined;
  /** of the last try, when it failed; also while an older certificate is still good */
  failure: { reason: string; at: Date } | undefined;
}

interface Failure {
  error: unknown;
  /** ms since epoch */
  at: number;
  /** in a row */
  count: number;
  /** before this moment nobody tries again, ms since epoch */
  until: number;
}

interface Entry {
  identity: string;
  users: number;
  certificate?: WorkloadCertificate;
  /** of the last certificate when it came, ms */
  lifeMs?: number;
  /** asked for: waiting for its turn, or under way */
  fetch?: PromiseWithResolvers<WorkloadCertificate>;
  failure?: Failure;
  timer?: NodeJS.Timeout;
}

export class Certificates {
  readonly #issuer: CertificateIssuer;
  readonly #log: Logger;
  readonly #lifetimeMs: number;
  readonly #entries = new Map<string, Entry>();
  readonly #health: IssuerHealth;
  readonly #requests: UrgentFirst<Entry>;
  #closed = false;

  /** @param lifetimeMs that is asked for; the issuer may give less */
  constructor(issuer: CertificateIssuer, log: Logger, lifetimeMs = LIFETIME_MS) {
    this.#issuer = issuer;
    this.#log = log;
    this.#lifetimeMs = lifetimeMs;
    this.#health = new IssuerHealth(log);
    this.#requests = new UrgentFirst(CONCURRENCY, (entry) => this.#obtain(entry));
  }

  /** Keeps an identity warm until released: fetched now, renewed, its failures retried. */
  retain(identity: string): { release(): void } {
    const entry = this.#entry(identity);
    entry.users++;
    if (!isGood(entry.certificate) && entry.failure === undefined) void this.#ask(entry, 'prefetch');
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
    if (isGood(entry.certificate)) return entry.certificate;
    if (entry.fetch === undefined && entry.failure !== undefined && Date.now() < entry.failure.until)
      throw new CulvertError('CERTIFICATE', `obtain certificate of ${identity}: waiting before another try`, entry.failure.error);
    return this.#ask(entry, 'connection');
  }

  list(): CertificateStatus[] {
    return [...this.#entries.values()].map(({ identity, certificate, failure }) => ({
      identity,
      state: isGood(certificate) ? 'Available' : failure === undefined ? 'Initializing' : 'Unavailable',
      certificate,
      failure: failure && { reason: describe(failure.error), at: new Date(failure.at) },
    }));
  }

  close(): void {
    this.#closed = true;
    for (const entry of [...this.#entries.values()]) this.#forget(entry);
  }

  #entry(identity: string): Entry {
    let entry = this.#entries.get(identity);
    if (entry === undefined) this.#entries.set(identity, (entry = { identity, users: 0 }));
    return entry;
  }

  #ask(entry: Entry, urgency: Urgency): Promise<WorkloadCertificate> {
    if (entry.fetch === undefined) {
      entry.fetch = Promise.withResolvers();
      entry.fetch.promise.catch(() => undefined); // logged where it happened; perhaps nobody waits
    }
    const { promise } = entry.fetch;
    this.#requests.add(entry, urgency);
    return promise;
  }

  async #obtain(entry: Entry): Promise<void> {
    const { fetch } = entry;
    try {
      const certificate = await obtainCertificate(this.#issuer, entry.identity, this.#lifetimeMs);
      delete entry.fetch;
      this.#obtained(entry, certificate);
      fetch?.resolve(certificate);
    } catch (error) {
      delete entry.fetch;
      this.#failed(entry, error);
      fetch?.reject(error);
    }
  }

  #obtained(entry: Entry, certificate: WorkloadCertificate): void {
    entry.certificate = certificate;
    entry.lifeMs = certificate.notAfter.getTime() - Date.now();
    delete entry.failure;
    const { identity } = entry;
    this.#log.info({ identity, serial: certificate.serial, notAfter: certificate.notAfter.toISOString() }, 'certificate obtained');
    this.#schedule(entry, renewalDelay(entry.lifeMs));
    if (this.#health.succeeded(identity)) this.#catchUp();
  }

  #failed(entry: Entry, error: unknown): void {
    if (this.#entries.get(entry.identity) !== entry) return; // forgotten meanwhile: nothing to try again, and nobody to tell
    const now = Date.now();
    const remainingMs = Math.max(0, (entry.certificate?.notAfter.getTime() ?? 0) - now);
    const count = (entry.failure?.count ?? 0) + 1;
    const delayMs = retryDelay(count, entry.lifeMs ?? this.#lifetimeMs, remainingMs);
    entry.failure = { error, at: now, count, until: now + Math.min(delayMs, CONNECTION_RETRY_MS) };
    this.#health.failed(entry.identity, error, delayMs);
    if (entry.certificate !== undefined && remainingMs === 0) {
      this.#log.error({ identity: entry.identity, error: describe(error) }, 'certificate expired and not renewed: connections fail');
      delete entry.certificate; // said once
    }
    this.#schedule(entry, delayMs);
  }

  /** The issuer is back: whoever had to do without it need not sit out a back-off. */
  #catchUp(): void {
    for (const entry of this.#entries.values())
      if (entry.users > 0 && entry.failure !== undefined && isOutage(entry.failure.error)) this.#again(entry);
  }

  /** Only identities in use are renewed; one asked for in passing is fetched again when asked for again. */
  #schedule(entry: Entry, delayMs: number): void {
    clearTimeout(entry.timer);
    if (this.#closed || this.#entries.get(entry.identity) !== entry) return;
    entry.timer = setTimeout(
      () => {
        if (entry.users > 0) this.#again(entry);
        else this.#forget(entry);
      },
      Math.min(delayMs, TIMER_MAX_MS),
    );
    entry.timer.unref();
  }

  #again(entry: Entry): void {
    void this.#ask(entry, isGood(entry.certificate) ? 'refresh' : 'prefetch');
  }

  #forget(entry: Entry): void {
    clearTimeout(entry.timer);
    if (this.#entries.get(entry.identity) === entry) this.#entries.delete(entry.identity);
    this.#health.forget(entry.identity);
    if (!this.#requests.drop(entry)) return;
    entry.fetch?.reject(new CulvertError('CERTIFICATE', `obtain certificate of ${entry.identity}: no workload needs it any more`));
    delete entry.fetch;
  }
}

function isGood(certificate: WorkloadCertificate | undefined): certificate is WorkloadCertificate {
  return certificate !== undefined && certificate.notAfter.getTime() > Date.now();
}
