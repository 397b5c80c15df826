/** Refusals of the API server: a Status object where it answers itself, anything where something in between does. */
import { KubernetesError } from './errors.ts';
import { isRecord } from './json.ts';

const EXCERPT = 200;

/** @param what "list /api/v1/pods" */
export function errorOfStatus(what: string, status: number, body: string): KubernetesError {
  let answer: unknown;
  try {
    answer = JSON.parse(body);
  } catch {
    answer = undefined;
  }
  return errorOfAnswer(what, status, answer, body);
}

/** @param answer meant to be a Status; its code wins over `status` */
export function errorOfAnswer(what: string, status: number, answer: unknown, body = ''): KubernetesError {
  const { code, reason, message, details } = isRecord(answer) ? answer : {};
  const why = typeof message === 'string' && message !== '' ? message : body.trim().slice(0, EXCERPT);
  return new KubernetesError(`${what}: ${why === '' ? `HTTP status ${status}` : why}`, {
    status: typeof code === 'number' ? code : status,
    ...(typeof reason === 'string' ? { reason } : {}),
    fields: fieldsOf(details),
  });
}

function fieldsOf(details: unknown): string[] {
  const causes = isRecord(details) && Array.isArray(details['causes']) ? (details['causes'] as unknown[]) : [];
  const fields = causes.map((cause) => (isRecord(cause) ? cause['field'] : undefined)).filter((field) => typeof field === 'string');
  return [...new Set(fields)];
}
