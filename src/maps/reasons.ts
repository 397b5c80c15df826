/** Reasons by number: what they say about direction and verdict, and the word people read. Derived from the names in bpf/abi/reasons.h. */
import { REASON } from './layout.ts';

export interface Reason {
  number: number;
  /** the C name, "OUT_PASS_OWN" */
  name: string;
  direction: 'outbound' | 'inbound' | 'other';
  verdict: 'redirected' | 'passed' | 'dropped' | 'other';
  /** "own", "no-tunnel", "dns-udp"; "reg-refused" and the like for registrations */
  reason: string;
}

const DIRECTIONS: Record<string, Reason['direction']> = { OUT: 'outbound', IN: 'inbound' };
const VERDICTS: Record<string, Reason['verdict']> = { REDIRECT: 'redirected', PASS: 'passed', DROP: 'dropped' };

function describe(number: number, name: string): Reason {
  const [first = '', second = '', ...rest] = name.split('_');
  const direction = DIRECTIONS[first];
  const verdict = VERDICTS[second];
  const text = (words: string[]): string => words.join('-').toLowerCase();
  if (direction === undefined || verdict === undefined) {
    return {
      number,
      name,
      direction: 'other',
      verdict: 'other',
      reason: text(first === 'MISC' ? [second, ...rest] : [first, second, ...rest].filter((w) => w !== '')),
    };
  }
  return { number, name, direction, verdict, reason: text(rest) };
}

const byNumber = new Map(Object.entries(REASON).map(([name, number]) => [number as number, describe(number, name)]));

/** Every reason that is one, in numerical order. */
export const reasons: readonly Reason[] = [...byNumber.values()]
  .filter((r) => r.number !== REASON.REASON_NONE)
  .sort((a, b) => a.number - b.number);

/** A number that a later version's program may have written is described by itself. */
export function reasonOf(number: number): Reason {
  return byNumber.get(number) ?? describe(number, `REASON_${number}`);
}
