/**
 * Our entry in a network configuration: insert, find, remove. Pure functions over files; a file that is right already comes back as
 * it is. What belongs to others keeps its keys and their order.
 */
import type { PluginConfig } from '../agent/api.ts';
import { isObject, same, shown, writeJson, type JsonObject } from './json.ts';
import { isListName, listName, readList, readSingle, type ConfFile, type Entry, type NetworkList, type Outcome } from './network.ts';

/** Also the name of the executable, which is how a runtime finds it. */
export const PLUGIN_TYPE = 'culvert-cni';

/** What the plugin speaks (src/cni/spec.ts). In a list of another version it would refuse every pod of the node. */
export const SPOKEN = ['0.3.0', '0.3.1', '0.4.0', '1.0.0', '1.1.0'];

/** Made in unchained mode. Last of all by name: it must never be the node's own network. */
export const STANDALONE = 'YYY-culvert-cni.conf';

/** What istio-cni makes of a single plugin. */
const WRAPPED = { name: 'k8s-pod-network', cniVersion: '0.3.1' };

/** What our entry tells the plugin. It asks the agent for everything else: no token, no kubeconfig. */
export type PluginSettings = PluginConfig;

/** Kept in our entry when the file around it is our making, so that taking it off needs no other record. */
type Origin =
  /** a single plugin of this file was put into a list; cniVersion, where it had one, was left out */
  | { wrapped: { file: string; cniVersion?: string } }
  /** the list is a copy of this file, made for own-config mode */
  | { copyOf: string };

/** The file with our entry as the last of its list; one plugin alone becomes a list, under a name for lists. */
export function insert(file: ConfFile, settings: PluginSettings): Outcome<ConfFile> {
  if (!isListName(file.name)) return wrap(file, settings);
  const list = readList(file.text);
  if (list.faults !== undefined) return list;
  const { cniVersion } = list.value;
  if (!SPOKEN.some((version) => version === cniVersion))
    return { faults: [`cniVersion: must be one of ${SPOKEN.join(', ')}, which ${PLUGIN_TYPE} speaks, found ${shown(cniVersion)}`] };
  const others = list.value.plugins.filter(isOthers);
  if (others.length === 0) return { faults: [`plugins: must have a plugin before ${PLUGIN_TYPE}`] };
  const plugins = [...others, entry(settings, wrappedOrigin(list.value))];
  if (same(plugins, list.value.plugins)) return { value: file };
  return { value: { name: file.name, text: writeJson({ ...list.value, plugins }) } };
}

/** Own-config mode: what `primary` says and our entry, as a list called `name`. */
export function copyWithEntry(primary: ConfFile, name: string, settings: PluginSettings): Outcome<ConfFile> {
  const whole = insert(primary, settings);
  if (whole.faults !== undefined) return whole;
  const list = readList(whole.value.text);
  if (list.faults !== undefined) return list;
  const plugins = [...list.value.plugins.filter(isOthers), entry(settings, { copyOf: primary.name })];
  return { value: { name, text: writeJson({ ...list.value, plugins }) } };
}

/**
 * Unchained: our entry as a network of its own, which a meta plugin (Multus) runs behind the pod's network. Its version is the one
 * that istio-cni gives its own.
 */
export function standalone(name: string, settings: PluginSettings): ConfFile {
  return { name, text: writeJson({ cniVersion: '0.3.1', name: PLUGIN_TYPE, ...entry(settings, undefined) }) };
}

/** Our entry; undefined when it is not there, or the file can't be read. */
export function find(file: ConfFile): Entry | undefined {
  if (!isListName(file.name)) {
    const single = readSingle(file.text).value;
    return single === undefined || isOthers(single) ? undefined : single;
  }
  return readList(file.text).value?.plugins.find((plugin) => !isOthers(plugin));
}

/** True for a file that is all ours: the copy of own-config mode, or the network of unchained mode. */
export function isOwn(file: ConfFile): boolean {
  const ours = find(file);
  return ours !== undefined && (!isListName(file.name) || ours['copyOf'] !== undefined);
}

export type Removal =
  /** our entry is not in it */
  | { kind: 'absent' }
  /** `file` takes its place, under another name when it was a single plugin before us */
  | { kind: 'replace'; file: ConfFile }
  /** all of it is ours */
  | { kind: 'delete' };

/** The reverse of `insert`, of `copyWithEntry` and of `standalone`. */
export function remove(file: ConfFile): Outcome<Removal> {
  if (!isListName(file.name)) return { value: { kind: isOwn(file) ? 'delete' : 'absent' } };
  const list = readList(file.text);
  if (list.faults !== undefined) return list;
  const others = list.value.plugins.filter(isOthers);
  if (others.length === list.value.plugins.length) return { value: { kind: 'absent' } };
  if (others.length === 0 || isOwn(file)) return { value: { kind: 'delete' } };
  return {
    value: {
      kind: 'replace',
      file: unwrap(list.value, others) ?? { name: file.name, text: writeJson({ ...list.value, plugins: others }) },
    },
  };
}

function wrap(file: ConfFile, settings: PluginSettings): Outcome<ConfFile> {
  const single = readSingle(file.text);
  if (single.faults !== undefined) return single;
  if (!isOthers(single.value)) return { faults: [`type: must be the plugin that makes the network, found "${PLUGIN_TYPE}"`] };
  const { cniVersion, ...plugin } = single.value;
  const origin = { wrapped: { file: file.name, ...(typeof cniVersion === 'string' ? { cniVersion } : {}) } };
  const list = { ...WRAPPED, plugins: [plugin, entry(settings, origin)] };
  return { value: { name: listName(file.name), text: writeJson(list) } };
}

/** The single plugin again, unless somebody made more of the list since. */
function unwrap(list: NetworkList, others: Entry[]): ConfFile | undefined {
  const { plugins: _, ...head } = list;
  const origin = wrappedOrigin(list);
  const [plugin] = others;
  if (origin === undefined || plugin === undefined || others.length > 1 || !same(head, WRAPPED)) return undefined;
  const { file, cniVersion } = origin.wrapped;
  return { name: file, text: writeJson({ ...(cniVersion === undefined ? {} : { cniVersion }), ...plugin }) };
}

/** A second insert must not forget how the list came about. */
function wrappedOrigin(list: NetworkList): Extract<Origin, { wrapped: object }> | undefined {
  const wrapped = list.plugins.find((plugin) => !isOthers(plugin))?.['wrapped'];
  if (!isObject(wrapped)) return undefined;
  const { file, cniVersion } = wrapped;
  if (typeof file !== 'string' || isListName(file) || listName(file) === file || file.includes('/')) return undefined;
  return { wrapped: { file, ...(typeof cniVersion === 'string' ? { cniVersion } : {}) } };
}

/** Without cniVersion and name, which libcni takes from the list. */
function entry(settings: PluginSettings, origin: Origin | undefined): Entry {
  const { runDir, stateDir, onAgentDown, statusPolicy } = settings;
  return { type: PLUGIN_TYPE, runDir, stateDir, onAgentDown, statusPolicy, ...origin } satisfies JsonObject;
}

function isOthers(plugin: Entry): boolean {
  return plugin.type !== PLUGIN_TYPE;
}
