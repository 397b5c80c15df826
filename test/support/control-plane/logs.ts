/** A logger whose lines a test reads. */
import { pino } from 'pino';
import type { Logger } from '../../../src/base/log.ts';

export type LogLine = Record<string, unknown>;

export function collectingLogger(): { log: Logger; lines: LogLine[] } {
  const lines: LogLine[] = [];
  const log = pino({ level: 'debug' }, { write: (text: string) => void lines.push(JSON.parse(text) as LogLine) });
  return { log, lines };
}
