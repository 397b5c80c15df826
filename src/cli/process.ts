/** What the daemons do as processes: how they are told to end, and what they do about a fault that nobody caught. */
import { describe } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';

/** The first SIGTERM or SIGINT; a second one ends the process at once. */
export function stopSignal(): Promise<NodeJS.Signals> {
  return new Promise((resolve) => {
    for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, resolve);
  });
}

/** One connection's or caller's fault must not end all the others. */
export function surviveRejections(log: Logger): void {
  process.on('unhandledRejection', (reason) => {
    log.error({ error: describe(reason) }, 'unexpected rejection');
  });
}
