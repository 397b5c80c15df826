/** Tells of a control plane that is away once, however often it is tried, and of its return. */
import { status } from '@grpc/grpc-js';
import { CulvertError } from '../../base/errors.ts';
import type { Logger } from '../../base/log.ts';
import { isServiceError, statusText } from '../../rpc/status.ts';

/** A server that has the stream but does not answer for this long counts as away; the stream stays, it may be slow. */
const SILENT_MS = 20_000;

/** How streams end that nothing is wrong with: age, a server that restarts, a connection that was lost. */
const ORDINARY = new Set([status.OK, status.CANCELLED, status.UNKNOWN, status.DEADLINE_EXCEEDED, status.UNAVAILABLE, status.ABORTED]);

export class Outages {
  readonly #url: string;
  readonly #log: Logger;
  readonly #onError: (error: Error) => void;
  #away = false;
  #silence: NodeJS.Timeout | undefined;

  constructor(url: string, log: Logger, onError: (error: Error) => void) {
    this.#url = url;
    this.#log = log;
    this.#onError = onError;
  }

  opened(): void {
    this.#silence = setTimeout(() => this.#report(`no answer for ${SILENT_MS / 1000} s`), SILENT_MS);
    this.#silence.unref();
  }

  answered(): void {
    clearTimeout(this.#silence);
    if (!this.#away) return;
    this.#away = false;
    this.#log.info({ controlPlane: this.#url }, 'control plane answers again');
  }

  /** @param error undefined when the server ended it without complaint @param useful it had answered */
  ended(error: unknown, useful: boolean): void {
    clearTimeout(this.#silence);
    const reason = error === undefined ? 'stream ended by the server' : statusText(error);
    const ordinary = error === undefined || (isServiceError(error) && ORDINARY.has(error.code));
    if (useful && ordinary) this.#log.info({ controlPlane: this.#url, reason }, 'stream to the control plane ended, beginning another');
    else this.#report(reason, error);
  }

  close(): void {
    clearTimeout(this.#silence);
  }

  #report(reason: string, cause?: unknown): void {
    this.#log.debug({ controlPlane: this.#url, reason }, 'control plane away');
    if (this.#away) return;
    this.#away = true;
    this.#onError(new CulvertError('XDS', `follow control plane ${this.#url}: ${reason}`, cause));
  }
}
