/** A tunnel that serves a netns already opens no listeners for a driver that comes later: they are looked for in its process. */
import { CulvertError, describe } from '../base/errors.ts';
import { wire } from '../maps/layout.ts';
import type { RedirectDriver } from './driver.ts';

/**
 * @param tunnels pids
 * @param pod for messages
 * @throws ENROL_FAILED when none of them listens for it
 */
export function bringListeners(driver: RedirectDriver, cookie: bigint, tunnels: readonly number[], pod: string): void {
  const listens = (): boolean => driver.listeners(cookie).some(({ port, alive }) => port === wire.PORT_OUTBOUND && alive);
  const faults: string[] = [];
  for (const pid of tunnels) {
    if (listens()) return;
    try {
      driver.adoptListeners(cookie, pid);
    } catch (error) {
      faults.push(describe(error));
    }
  }
  if (listens()) return;
  const why = faults.length === 0 ? '' : `: ${faults.join('; ')}`;
  throw new CulvertError('ENROL_FAILED', `move pod ${pod} to driver ${driver.name}: no tunnel listens for it${why}`);
}
