/** Our entry put into the host's network configuration, and taken out again. Every step may be repeated. */
import { readFile, realpath, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { CulvertError, isSystem } from '../base/errors.ts';
import { choose, type Choice, type Found } from './choose.ts';
import { copyWithEntry, find, insert, isOwn, remove, STANDALONE, standalone, type PluginSettings } from './conflist.ts';
import { readConfDirectory } from './conf-directory.ts';
import { removeExecutable } from './executable.ts';
import { faultsOf, isConfName, isListName, type ConfFile, type Outcome } from './network.ts';
import { place, removeFile } from './place.ts';

/** A new file may carry what its original's readers alone may see. */
const OWN_MODE = 0o600;

export interface ConfOptions {
  confDir: string;
  /** which file to join, or in unchained mode to make; undefined: the first valid one, STANDALONE */
  confName?: string;
  /** own-config mode: the file to make beside the one that is used otherwise */
  ownConfig?: string;
  /** false: our entry is put beside the others as a network of its own; default true */
  chained?: boolean;
  settings: PluginSettings;
}

export interface ConfResult extends Pick<Choice, 'skipped'> {
  /** the file that has our entry now; undefined: no network configuration is there yet */
  file: string | undefined;
  /** files that had to be written or removed */
  changed: string[];
}

/** @throws CONFLIST_INVALID, SYSTEM */
export async function installConf(options: ConfOptions): Promise<ConfResult> {
  return options.chained === false ? installStandalone(options) : installChained(options);
}

async function installChained(options: ConfOptions): Promise<ConfResult> {
  const { confDir, ownConfig, settings } = options;
  const files = await readConfDirectory(confDir);
  const { file: primary, skipped } = accepted(confDir, choose(files, options.confName));
  if (primary === undefined) return { file: undefined, skipped, changed: [] };
  if (ownConfig !== undefined) checkOrder(ownConfig, primary.name);
  const edited = ownConfig === undefined ? insert(primary, settings) : copyWithEntry(primary, ownConfig, settings);
  const wanted = accepted(join(confDir, primary.name), edited);
  const changed: string[] = [];
  const present = files.find((file) => file.name === wanted.name);
  if (present === undefined || !('text' in present) || present.text !== wanted.text) {
    if (wanted.name !== primary.name) checkOurs(confDir, present);
    await placeConf(confDir, primary, wanted, ownConfig === undefined);
    changed.push(wanted.name);
  }
  if (ownConfig === undefined && primary.name !== wanted.name) await drop(confDir, primary.name, changed);
  // Of another mode or name: it comes first and would say what no longer is so.
  for (const file of files) if ('text' in file && file.name !== wanted.name && isOwn(file)) await drop(confDir, file.name, changed);
  return { file: wanted.name, skipped, changed };
}

/** No list is joined: where our entry is in one, from the time before, it is taken out. */
async function installStandalone({ confDir, confName = STANDALONE, ownConfig, settings }: ConfOptions): Promise<ConfResult> {
  if (ownConfig !== undefined)
    throw new CulvertError('CONFIG_INVALID', `name own configuration: "${ownConfig}" is a chain, and unchained mode makes none`);
  if (!isConfName(confName) || isListName(confName))
    throw new CulvertError(
      'CONFIG_INVALID',
      `name unchained configuration: "${confName}" must be a file name that ends with .conf or .json`,
    );
  const wanted = standalone(confName, settings);
  const present = (await readConfDirectory(confDir)).find((file) => file.name === confName);
  const changed: string[] = [];
  if (present === undefined || !('text' in present) || present.text !== wanted.text) {
    checkOurs(confDir, present);
    await place(join(confDir, confName), { text: wanted.text }, OWN_MODE);
    changed.push(confName);
  }
  changed.push(...(await uninstallConf(confDir, confName)));
  return { file: confName, skipped: [], changed };
}

/**
 * Takes everything off the host that an installation put there: first what calls the executable, then the executable.
 * @returns what was there: names of files of the configuration directory, and whether the executable was. @throws SYSTEM
 */
export async function uninstall({
  binDir,
  confDir,
}: {
  binDir: string;
  confDir: string;
}): Promise<{ files: string[]; executable: boolean }> {
  const files = await uninstallConf(confDir);
  return { files, executable: await removeExecutable(binDir) };
}

/**
 * Every file that has our entry, however it came there.
 * @param except stays
 * @returns the names of files that changed. @throws SYSTEM
 */
async function uninstallConf(confDir: string, except?: string): Promise<string[]> {
  const changed: string[] = [];
  const files = (await readConfDirectory(confDir)).filter((file): file is ConfFile => 'text' in file && file.name !== except);
  const names = new Set(files.map(({ name }) => name));
  for (const file of files) {
    const removal = remove(file).value;
    if (removal === undefined || removal.kind === 'absent') continue; // also what can't be read: it is not ours
    const next = removal.kind === 'replace' ? removal.file : undefined;
    // The single plugin is there again: its owner wrote it later than we did.
    if (next?.name === file.name || (next !== undefined && !names.has(next.name))) await placeConf(confDir, file, next, true);
    if (next?.name !== file.name) await removeFile(join(confDir, file.name));
    changed.push(file.name);
  }
  return changed;
}

/** @throws CONFIG_INVALID: own-config mode with a file that no runtime would read, or not first */
function checkOrder(ownConfig: string, primary: string): void {
  if (!isListName(ownConfig) || ownConfig.includes('/'))
    throw new CulvertError('CONFIG_INVALID', `name own configuration: "${ownConfig}" must be a file name that ends with .conflist`);
  if (ownConfig >= primary)
    throw new CulvertError(
      'CONFIG_INVALID',
      `name own configuration: "${ownConfig}" must sort before "${primary}", runtimes take the first`,
    );
}

/** A file that we make must not take the place of somebody else's. @throws CONFLIST_INVALID */
function checkOurs(confDir: string, present: Found | undefined): void {
  if (present === undefined || !('text' in present) || faultsOf(present).length > 0 || find(present) !== undefined) return;
  const path = join(confDir, present.name);
  throw new CulvertError(
    'CONFLIST_INVALID',
    `write ${path}: it belongs to somebody else; name another file (--cni-conf-name, --own-config)`,
  );
}

/**
 * @param from what the new content was made of: when it changed meanwhile, the change is not overwritten
 * @param inherit the mode of `from`, for a file of others
 */
async function placeConf(confDir: string, from: ConfFile, file: ConfFile, inherit: boolean): Promise<void> {
  const source = join(confDir, from.name);
  const target = join(confDir, file.name);
  const changed = (error?: unknown): CulvertError =>
    new CulvertError('CONFLIST_CHANGED', `write ${target}: ${from.name} ${error === undefined ? 'changed' : 'is gone'} meanwhile`, error);
  try {
    const mode = inherit ? (await stat(source)).mode & 0o7777 : OWN_MODE;
    const resolved = await realpath(target).catch(() => target); // a link stays one
    await place(resolved, { text: file.text }, mode, async () => {
      if ((await readFile(source, 'utf8')) !== from.text) throw changed();
    });
  } catch (error) {
    throw isSystem(error, 'ENOENT') ? changed(error) : error;
  }
}

async function drop(confDir: string, name: string, changed: string[]): Promise<void> {
  if (await removeFile(join(confDir, name))) changed.push(name);
}

function accepted<T>(path: string, outcome: Outcome<T>): T {
  if (outcome.faults !== undefined) throw new CulvertError('CONFLIST_INVALID', `read ${path}: ${outcome.faults.join('; ')}`);
  return outcome.value;
}
