/** What becomes of a policy: whether tunnels enforce all that it asks for, and if not, what they enforce instead. */
import type { PolicyObject } from '../cluster.ts';

export type PolicyRef = Pick<PolicyObject, 'kind' | 'namespace' | 'name' | 'uid' | 'generation'>;

export interface Verdict {
  /** everything that the policy asks for is enforced */
  ok: boolean;
  /** as in the condition: UnsupportedValue is what L4 cannot express, Invalid what nobody can read */
  reason: 'Accepted' | 'UnsupportedValue' | 'Invalid';
  /** tunnels are told about it, if only in part */
  enforced: boolean;
  /** each with the field and the value that it is about */
  faults: readonly string[];
  /** one line for people: the faults, and what is enforced now */
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

export const ACCEPTED: Verdict = { ok: true, reason: 'Accepted', enforced: true, faults: [], message: 'enforced by tunnels' };

/** @param effect what is enforced now, a sentence without its full stop */
export function refusal(
  reason: 'UnsupportedValue' | 'Invalid',
  { faults, effect, enforced }: { faults: readonly string[]; effect: string; enforced: boolean },
): Verdict {
  const named = faults.slice(0, MAX_FAULTS).join('; ');
  const more = faults.length > MAX_FAULTS ? `; and ${faults.length - MAX_FAULTS} more` : '';
  const end = `. Enforced now: ${effect}.`;
  const text = `${named}${more}`;
  const room = MAX_MESSAGE - end.length;
  return { ok: false, reason, enforced, faults, message: `${text.length > room ? `${text.slice(0, room - 1)}…` : text}${end}` };
}

export function refOf({ kind, namespace, name, uid, generation }: PolicyObject): PolicyRef {
  return { kind, namespace, name, uid, generation };
}
