/**
 * What is said of an issuer that gives no certificates: once when it goes away and once when it is back, whoever asked how often;
 * and of an identity that it refuses, once per reason.
 */
import { CulvertError, describe } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';

export class IssuerHealth {
  readonly #log: Logger;
  /** since when it is away (ms, monotonic), and how many requests failed */
  #outage: { since: number; failures: number } | undefined;
  /** identity → the reason last said */
  readonly #refused = new Map<string, string>();

  constructor(log: Logger) {
    this.#log = log;
  }

  failed(identity: string, error: unknown, retryInMs: number): void {
    const reason = describe(error);
    const facts = { identity, error: reason, retryInMs: Math.round(retryInMs) };
    if (!isOutage(error)) {
      const level = this.#refused.get(identity) === reason ? 'debug' : 'warn';
      this.#refused.set(identity, reason);
      this.#log[level](facts, 'certificate refused');
    } else if (this.#outage === undefined) {
      this.#outage = { since: performance.now(), failures: 1 };
      this.#log.warn(facts, 'no certificates from the CA; those in use stay until they expire');
    } else {
      this.#outage.failures++;
      this.#log.debug(facts, 'certificate not obtained');
    }
  }

  /** @returns whether an outage ended with it */
  succeeded(identity: string): boolean {
    this.#refused.delete(identity);
    const outage = this.#outage;
    if (outage === undefined) return false;
    this.#outage = undefined;
    this.#log.info({ awayMs: Math.round(performance.now() - outage.since), failures: outage.failures }, 'CA gives certificates again');
    return true;
  }

  forget(identity: string): void {
    this.#refused.delete(identity);
  }
}

/** Everybody's trouble, and over when it is over; else it is about one identity. */
export function isOutage(error: unknown): boolean {
  return !(error instanceof CulvertError) || error.retryable;
}
