/** What grpc says when a call ends badly, in one line for people. */
import { status, type ServiceError } from '@grpc/grpc-js';
import { describe } from '../base/errors.ts';

export function isServiceError(error: unknown): error is ServiceError {
  return error instanceof Error && 'details' in error && typeof (error as ServiceError).code === 'number';
}

/** "UNAVAILABLE: connect to https://…: its certificate does not lead to a root in …" */
export function statusText(error: unknown): string {
  if (!isServiceError(error)) return describe(error);
  const details = error.details
    .replace(/^No connection established\. Last error: (.*?)\. Resolution note: .*$/s, '$1')
    .replace(/^(?:\w*Error: )+/, '');
  return `${status[error.code]}: ${details === '' ? 'no reason given' : details}`;
}
