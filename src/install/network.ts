/**
 * Network configurations as runtimes read them (libcni): a list in a `.conflist`, one plugin alone in a `.conf` or `.json`. Read with
 * every fault named, so that nothing is edited that was not understood.
 */
import { isObject, readJson, shown, type JsonObject } from './json.ts';

/** A file of the CNI configuration directory, by its name there. */
export interface ConfFile {
  name: string;
  text: string;
}

/** What became of a reading or an edit; faults name field and value. */
export type Outcome<T> = { value: T; faults?: undefined } | { value?: undefined; faults: string[] };

export type Entry = JsonObject & { type: string };

export type NetworkList = JsonObject & { name: string; plugins: Entry[] };

const LIST = '.conflist';
const NAME = /\.(conflist|conf|json)$/;

/** Runtimes read files of these names only. */
export function isConfName(name: string): boolean {
  return NAME.test(name) && !name.includes('/');
}

export function isListName(name: string): boolean {
  return name.endsWith(LIST);
}

/** "10-weave.conf" as "10-weave.conflist" */
export function listName(name: string): string {
  return name.replace(NAME, LIST);
}

/** The same configuration under its other name: `.conf` for `.conflist` and the other way round. */
export function twinName(name: string): string {
  return isListName(name) ? name.replace(NAME, '.conf') : listName(name);
}

export function readList(text: string): Outcome<NetworkList> {
  return read(text, listFaults);
}

export function readSingle(text: string): Outcome<Entry> {
  return read(text, singleFaults);
}

/** Whether a runtime would take it. @returns its faults */
export function faultsOf(file: ConfFile): string[] {
  return (isListName(file.name) ? readList(file.text) : readSingle(file.text)).faults ?? [];
}

function read<T extends JsonObject>(text: string, check: (conf: JsonObject) => string[]): Outcome<T> {
  let conf: unknown;
  try {
    conf = readJson(text);
  } catch (error) {
    return { faults: [(error as Error).message] };
  }
  if (!isObject(conf)) return { faults: [`it is not an object, found ${shown(conf)}`] };
  const faults = check(conf);
  return faults.length > 0 ? { faults } : { value: conf as T };
}

function singleFaults(conf: JsonObject): string[] {
  if (conf['plugins'] !== undefined && conf['type'] === undefined) return [`it is a list: its name must end with ${LIST}`];
  return [...versionFaults(conf), ...typeFaults('type', conf['type'])];
}

function listFaults(conf: JsonObject): string[] {
  const { name, plugins } = conf;
  const faults = versionFaults(conf);
  if (typeof name !== 'string' || name === '') faults.push(found('name', 'must be a text that is not empty', name));
  if (!Array.isArray(plugins)) return [...faults, found('plugins', 'must be a list', plugins)];
  if (plugins.length === 0) faults.push(found('plugins', 'must not be empty', plugins));
  for (const [index, entry] of (plugins as unknown[]).entries()) {
    const field = `plugins[${index}]`;
    if (isObject(entry)) faults.push(...typeFaults(`${field}.type`, entry['type']));
    else faults.push(found(field, 'must be an object', entry));
  }
  return faults;
}

function versionFaults({ cniVersion }: JsonObject): string[] {
  return cniVersion === undefined || typeof cniVersion === 'string' ? [] : [found('cniVersion', 'must be a text', cniVersion)];
}

function typeFaults(field: string, type: unknown): string[] {
  return typeof type === 'string' && type !== '' ? [] : [found(field, 'must be a text that is not empty', type)];
}

function found(field: string, rule: string, value: unknown): string {
  return value === undefined ? `${field}: missing, ${rule}` : `${field}: ${rule}, found ${shown(value)}`;
}
