/** What becomes of a policy: whether all that it asks for is sent to the tunnels, and if not, what is sent instead. */
import type { PolicyObject } from '../cluster.ts';

export type PolicyRef = Pick<PolicyObject, 'kind' | 'namespace' | 'name' | 'uid' | 'generation'>;

export interface Verdict {
  /** everything that the policy asks for is sent */
  ok: boolean;
  /** as in the condition: UnsupportedValue is what L4 cannot express, Invalid what nobody can read */
  reason: 'Accepted' | 'UnsupportedValue' | 'Invalid';
  /** tunnels are told about it, if only in part */
  sent: boolean;
  /** each with the field and the value that it is about */
  faults: readonly string[];
  /** one line for people: the faults, and what is sent */
  message: string;
}

export interface PolicyReport {
  policy: PolicyRef;
  /** undefined: the policy is gone */
  verdict: Verdict | undefined;
}

/** A condition and an Event are no place for a thousand faults; an Event's message ends at 1024 characters. */
const MAX_FAULTS = 10;
const MAX_MESSAGE = 1000;

export const ACCEPTED: Verdict = { ok: true, reason: 'Accepted', sent: true, faults: [], message: 'sent to the tunnels as written' };

/** @param effect what is sent, a sentence without its full stop */
export function refusal(
  reason: 'UnsupportedValue' | 'Invalid',
  { faults, effect, sent }: { faults: readonly string[]; effect: string; sent: boolean },
): Verdict {
  const named = faults.slice(0, MAX_FAULTS).join('; ');
  const more = faults.length > MAX_FAULTS ? `; and ${faults.length - MAX_FAULTS} more` : '';
  const end = `. Sent to the tunnels: ${effect}.`;
  const text = `${named}${more}`;
  const room = MAX_MESSAGE - end.length;
  return { ok: false, reason, sent, faults, message: `${text.length > room ? `${text.slice(0, room - 1)}…` : text}${end}` };
}

export function refOf({ kind, namespace, name, uid, generation }: PolicyObject): PolicyRef {
  return { kind, namespace, name, uid, generation };
}
