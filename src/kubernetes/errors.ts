/** What the Kubernetes API said when it refused. */
import { CulvertError } from '../base/errors.ts';

/** Our own reason beside the API's: nobody was asked, for want of credentials that can be read. */
export const NO_CREDENTIALS = 'NoCredentials';

export class KubernetesError extends CulvertError {
  /** HTTP status; 0: no answer came */
  readonly status: number;
  /** the API's own word: "NotFound", "Conflict", "Expired" */
  readonly reason: string;
  /** what an object that is refused as invalid is invalid by: "metadata.uid" */
  readonly fields: readonly string[];

  constructor(message: string, answer: { status: number; reason?: string; fields?: readonly string[] }, cause?: unknown) {
    const { status, reason = '', fields = [] } = answer;
    super('KUBERNETES', message, cause, { retryable: status === 0 || status === 409 || status === 410 || status === 429 || status >= 500 });
    this.name = 'KubernetesError';
    this.status = status;
    this.reason = reason;
    this.fields = fields;
  }
}

/** @param status compared with the error's; undefined: any */
export function isKubernetes(error: unknown, status?: number): error is KubernetesError {
  return error instanceof KubernetesError && (status === undefined || error.status === status);
}
