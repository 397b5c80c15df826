/** What would have been logged. */
import { pino } from 'pino';
import type { Logger } from '../../../src/base/log.ts';

export interface LogLine {
  level: number;
  msg: string;
  [key: string]: unknown;
}

export function recordingLog(level = 'info'): { log: Logger; lines: LogLine[] } {
  const lines: LogLine[] = [];
  return { log: pino({ level }, { write: (line: string) => lines.push(JSON.parse(line) as LogLine) }), lines };
}
