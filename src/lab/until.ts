/** Waits for what another process does and no event tells us. */
import { setTimeout as delay } from 'node:timers/promises';
import { CulvertError, describe } from '../base/errors.ts';

const INTERVAL_MS = 20;

/**
 * @param attempt returns undefined for "not yet"; an error counts as that, and the last one explains a time-out
 * @throws CulvertError CHECK_FAILED "wait for <what>: …"
 */
export async function until<T>(what: string, timeoutMs: number, attempt: () => T | undefined | Promise<T | undefined>): Promise<T> {
  const deadline = performance.now() + timeoutMs;
  let last = '';
  for (;;) {
    try {
      const value = await attempt();
      if (value !== undefined) return value;
    } catch (error) {
      last = `: ${describe(error)}`;
    }
    if (performance.now() > deadline) throw new CulvertError('CHECK_FAILED', `wait for ${what}: not within ${timeoutMs / 1000} s${last}`);
    await delay(INTERVAL_MS);
  }
}
