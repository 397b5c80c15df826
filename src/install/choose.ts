/** Which file of the CNI configuration directory a runtime uses, and so which one we join. */
import { isOwn } from './conflist.ts';
import { faultsOf, twinName, type ConfFile, type Outcome } from './network.ts';

/** A file of the directory as it was found. */
export type Found = ConfFile | { name: string; unreadable: string };

export interface Choice {
  /** undefined: there is none yet */
  file: ConfFile | undefined;
  /** files that come before it and that runtimes skip, with their faults */
  skipped: { name: string; faults: string[] }[];
}

/**
 * A configured name, or the same under its other ending; else the first valid one by name, as runtimes choose. A file that we made
 * is never the one to join.
 * @param files sorted by name
 * @returns faults when the configured one is not valid
 */
export function choose(files: readonly Found[], confName?: string): Outcome<Choice> {
  if (confName !== undefined) return configured(files, confName);
  const skipped: Choice['skipped'] = [];
  for (const file of files) {
    const faults = faultsOfFound(file);
    if (faults.length > 0) skipped.push({ name: file.name, faults });
    else if ('text' in file && !isOwn(file)) return { value: { file, skipped } };
  }
  return { value: { file: undefined, skipped } };
}

function configured(files: readonly Found[], confName: string): Outcome<Choice> {
  const named = (name: string): Found | undefined => files.find((file) => file.name === name);
  const file = named(confName) ?? named(twinName(confName));
  if (file === undefined) return { value: { file, skipped: [] } };
  const faults = faultsOfFound(file).map((fault) => `${file.name}: ${fault}`);
  return 'text' in file && faults.length === 0 ? { value: { file, skipped: [] } } : { faults };
}

function faultsOfFound(file: Found): string[] {
  return 'text' in file ? faultsOf(file) : [file.unreadable];
}
