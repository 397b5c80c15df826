/**
 * The constants compiled into the programs (rodata, set between open and load) and their fingerprint. A program's tag covers its
 * instructions but not the values in .rodata, so "the same program" means same tag and same fingerprint.
 */
import { createHash } from 'node:crypto';
import { list, makeDir, removeTree, type Pins } from './pins.ts';

export type Constants = Record<string, number | bigint>;

/** Sixteen hex digits; a name for bpffs. */
export function fingerprint(constants: Constants): string {
  const text = Object.entries(constants)
    .map(([name, value]) => `${name}=${value}`)
    .sort()
    .join('\n');
  return createHash('sha256').update(text).digest('hex').slice(0, 16);
}

/** True when every program now pinned was loaded with these constants. */
export function constantsAreLive(pins: Pins, hash: string): boolean {
  const found = list(pins.constants);
  return found.length === 1 && found[0] === hash;
}

/** Taken away before the first program is replaced: a crash in between then looks like "all must be replaced". */
export function forgetConstants(pins: Pins): void {
  removeTree(pins.constants);
}

export function rememberConstants(pins: Pins, hash: string): void {
  makeDir(`${pins.constants}/${hash}`);
}
