/** Logs: JSON lines (pino) on stderr, never stdout, which belongs to answers. Child loggers carry the scope. */
import { pino, type Logger } from 'pino';

export type { Logger };

/** @param level pino's level names; default info */
export function createLogger(scope: string, level = 'info', fd = 2): Logger {
  return pino(
    { level, base: { scope }, timestamp: pino.stdTimeFunctions.isoTime, formatters: { level: (label) => ({ level: label }) } },
    pino.destination({ fd, sync: true }),
  );
}
