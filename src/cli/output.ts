/** Answers: one JSON document or a table on stdout. Remarks and progress: stderr. */
import { Option } from 'commander';

export interface CliIo {
  out: (text: string) => void;
  err: (text: string) => void;
  /** stdout is a terminal */
  tty: boolean;
}

export type Format = 'json' | 'table';

export interface Table {
  head: string[];
  rows: string[][];
}

export function formatOption(): Option {
  return new Option('-o, --output <format>', 'table (default on a terminal) or json (default elsewhere)').choices(['json', 'table']);
}

/** @param format undefined: a table on a terminal, JSON for programs */
export async function answer(io: CliIo, format: Format | undefined, document: unknown, table: () => Table): Promise<void> {
  if ((format ?? (io.tty ? 'table' : 'json')) === 'json') io.out(`${JSON.stringify(document, jsonSafe, 2)}\n`);
  else io.out(await render(table()));
}

/** 64-bit values are decimal strings in JSON. */
function jsonSafe(_: string, value: unknown): unknown {
  return typeof value === 'bigint' ? value.toString() : value;
}

export async function render(table: Table): Promise<string> {
  if (table.rows.length === 0) return 'none\n';
  const { default: CliTable } = await import('cli-table3');
  const none = {
    top: '',
    'top-mid': '',
    'top-left': '',
    'top-right': '',
    bottom: '',
    'bottom-mid': '',
    'bottom-left': '',
    'bottom-right': '',
  };
  const drawn = new CliTable({
    head: table.head,
    chars: { ...none, left: '', 'left-mid': '', mid: '', 'mid-mid': '', right: '', 'right-mid': '', middle: '  ' },
    style: { head: [], border: [], 'padding-left': 0, 'padding-right': 0 },
  });
  drawn.push(...table.rows);
  return `${drawn
    .toString()
    .split('\n')
    .map((line) => line.trimEnd())
    .join('\n')}\n`;
}

/** "{no-tunnel: 3}" as "no-tunnel 3" */
export function counts(reasons: Record<string, number>): string {
  return Object.entries(reasons)
    .filter(([, count]) => count > 0)
    .map(([reason, count]) => `${reason} ${count}`)
    .join(', ');
}
