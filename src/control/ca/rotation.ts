/**
 * Going over to another root without a moment in which two workloads do not trust each other. Pure: from what is there to the next step.
 *
 *     steady ──introduce──▶ introduced ──switch──▶ switched ──drop──▶ steady
 *
 * introduced: the next root is trusted by everybody (answers and ConfigMaps carry both), the old one still signs.
 * switched:   the next root signs, the old one is still trusted, because certificates by it are in use.
 * Between two steps lies the overlap: at least the longest life of a certificate, so that every workload has meanwhile renewed its own
 * and got the roots with it.
 */

export type RotationPhase = 'steady' | 'introduced' | 'switched';

export interface RotationState {
  phase: RotationPhase;
  /** validity of the certificate that signs, ms since epoch */
  signing: { notBefore: number; notAfter: number };
  /** when the phase began, ms since epoch; undefined when that is not known, and the overlap begins anew */
  since: number | undefined;
  /** longest life of a certificate that was handed out, ms, when it is more than the overlap */
  longestMs: number;
  /** what the operator asked for last, and what was last done at such a request */
  asked: string | undefined;
  done: string | undefined;
}

export interface RotationPolicy {
  /** between two steps at least, ms */
  overlapMs: number;
  /** rotation begins when less than this share of the root's life is left, 0 to 1 */
  remaining: number;
}

export type RotationStep =
  | { step: 'introduce' | 'switch' | 'drop' | 'date'; why: string }
  /** nothing to do before `due` (ms since epoch) unless something changes */
  | { step: 'none'; due: number };

/** Share of what is left of the old root when the next one is introduced, after which the next one signs in any case. */
const LATEST_SWITCH = 0.75;

/** "date": only write down that the phase begins now. */
export function nextStep(state: RotationState, policy: RotationPolicy, now: number): RotationStep {
  const { phase, signing, since, asked, done } = state;
  if (phase === 'steady') {
    if (asked !== undefined && asked !== done) return { step: 'introduce', why: `asked for: ${asked}` };
    const due = signing.notAfter - (signing.notAfter - signing.notBefore) * policy.remaining;
    return now >= due
      ? { step: 'introduce', why: `the root expires at ${new Date(signing.notAfter).toISOString()}` }
      : { step: 'none', due };
  }
  if (phase === 'introduced' && now >= signing.notAfter) return { step: 'switch', why: 'the old root has expired' };
  // A time in the future is none: a clock was wrong once.
  if (since === undefined || since > now) return { step: 'date', why: 'when the phase began is not known' };
  // A root that does not live as long as the overlap is left in good time all the same.
  const latest = phase === 'introduced' ? since + (signing.notAfter - since) * LATEST_SWITCH : Infinity;
  const due = Math.min(since + Math.max(policy.overlapMs, state.longestMs), latest);
  if (now < due) return { step: 'none', due };
  return { step: phase === 'introduced' ? 'switch' : 'drop', why: `${phase} for ${Math.round((now - since) / 1000)} s` };
}
