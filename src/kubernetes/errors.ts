/** What the Kubernetes API said when it refused. */
import { CulvertError } from '../base/errors.ts';

/** Our own reason beside the API's: nobody was asked, for want of credentials that can be read. */
export const NO_CREDENTIALS = 'NoCredentials';

export interface Refusal {
  status: number;
  reason?: string;
  fields?: readonly string[];
  retryAfterMs?: number;
}

export class KubernetesError extends CulvertError {
  /** HTTP status; 0: no answer came */
  readonly status: number;
  /** the API's own word: "NotFound", "Conflict", "Expired" */
  readonly reason: string;
  /** what an object that is refused as invalid is invalid by: "metadata.uid" */
  readonly fields: readonly string[];
  /** how long the server asks to be left alone; 0: it did not say */
  readonly retryAfterMs: number;

  constructor(message: string, answer: Refusal, cause?: unknown) {
    const { status, reason = '', fields = [], retryAfterMs = 0 } = answer;
    super('KUBERNETES', message, cause, { retryable: status === 0 || status === 409 || status === 410 || status === 429 || status >= 500 });
    this.name = 'KubernetesError';
    this.status = status;
    this.reason = reason;
    this.fields = fields;
    this.retryAfterMs = retryAfterMs;
  }
}

/** How long whoever asks again must wait at least, in ms. */
export function retryAfterMs(error: unknown): number {
  return error instanceof KubernetesError ? error.retryAfterMs : 0;
}

/** @param status compared with the error's; undefined: any */
export function isKubernetes(error: unknown, status?: number): error is KubernetesError {
  return error instanceof KubernetesError && (status === undefined || error.status === status);
}
