/** Refusals of the API server: a Status object where it answers itself, anything where something in between does. */
import { KubernetesError } from './errors.ts';
import { isRecord } from './json.ts';

const EXCERPT = 200;
/** Who asks for more than that is not believed. */
const MAX_RETRY_AFTER_MS = 60_000;

/** @param what "list /api/v1/pods" @param retryAfter header of that name: seconds, or a date, which the API server never sends */
export function errorOfStatus(what: string, status: number, body: string, retryAfter?: string): KubernetesError {
  let answer: unknown;
  try {
    answer = JSON.parse(body);
  } catch {
    answer = undefined;
  }
  const seconds = Number(retryAfter ?? 0);
  const retryAfterMs = Number.isFinite(seconds) && seconds > 0 ? Math.min(seconds * 1000, MAX_RETRY_AFTER_MS) : 0;
  return errorOfAnswer(what, status, answer, { body, retryAfterMs });
}

/** @param answer meant to be a Status; its code wins over `status` */
export function errorOfAnswer(
  what: string,
  status: number,
  answer: unknown,
  http: { body?: string; retryAfterMs?: number } = {},
): KubernetesError {
  const { code, reason, message, details } = isRecord(answer) ? answer : {};
  const { body = '', retryAfterMs = 0 } = http;
  const why = typeof message === 'string' && message !== '' ? message : body.trim().slice(0, EXCERPT);
  return new KubernetesError(`${what}: ${why === '' ? `HTTP status ${status}` : why}`, {
    status: typeof code === 'number' ? code : status,
    ...(typeof reason === 'string' ? { reason } : {}),
    fields: fieldsOf(details),
    retryAfterMs,
  });
}

function fieldsOf(details: unknown): string[] {
  const causes = isRecord(details) && Array.isArray(details['causes']) ? (details['causes'] as unknown[]) : [];
  const fields = causes.map((cause) => (isRecord(cause) ? cause['field'] : undefined)).filter((field) => typeof field === 'string');
  return [...new Set(fields)];
}
