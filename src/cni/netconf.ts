/** Our entry of the conflist as the runtime passes it on stdin: validated here once, trusted inside. */
import type { PluginConfig } from '../agent/api.ts';
import { memberSpan, withMember } from './raw-json.ts';
import { CniError, cniCode, isRecord, supportedVersions, type PrevResult, type ValidAttachment } from './spec.ts';

type Version = (typeof supportedVersions)[number];

export interface NetConf {
  cniVersion: Version;
  /** of the network */
  name: string;
  plugin: PluginConfig;
}

export interface ChainedConf extends NetConf {
  prevResult: PrevResult;
  /** prevResult in the text it came in, its cniVersion being the configuration's; without one, an empty result */
  result: string;
}

const ON_AGENT_DOWN = ['closed', 'known', 'open'] as const;
const STATUS_POLICY = ['node-ready', 'agent-ready'] as const;
/** libcni's rule for names of networks */
const NETWORK_NAME = /^[a-zA-Z0-9][a-zA-Z0-9_.-]*$/;
/** The second is what the specification's first draft called it; libcni sends both. */
const VALID_ATTACHMENTS = ['cni.dev/valid-attachments', 'cni.dev/attachments'] as const;

/**
 * Of every verb but DEL and VERSION, which do with less.
 * @param text the whole of stdin
 * @param since the version in which the verb came
 * @throws CniError 6 when it is not JSON, 1 for a version that we don't speak or that has no such verb, 2 and 7 for a wrong value
 */
export function parseNetConf(text: string, verb: string, since: Version): NetConf {
  return netConf(decode(text), verb, since);
}

/**
 * Of ADD and CHECK. An ADD may come without prevResult: unchained, a meta plugin runs us behind the pod's network.
 * @throws CniError as parseNetConf
 */
export function parseChainedConf(text: string, verb: 'ADD' | 'CHECK', since: Version): ChainedConf {
  const conf = decode(text);
  const known = netConf(conf, verb, since);
  const prevResult = conf['prevResult'];
  const span = memberSpan(text, 'prevResult');
  if (prevResult === undefined || prevResult === null || span === undefined) {
    if (verb === 'ADD') return { ...known, prevResult: {}, result: JSON.stringify({ cniVersion: known.cniVersion }) };
    throw new CniError(cniCode.invalidConfig, `read prevResult: there is none to ${verb}`, 'the runtime passes on what ADD answered');
  }
  const result = withMember(text.slice(span.start, span.end), 'cniVersion', known.cniVersion);
  return { ...known, prevResult: checkedResult(prevResult), result };
}

/**
 * What GC may not touch. Both keys may be missing: libcni leaves them out when nothing is in use.
 * @throws CniError 6, 7
 */
export function validAttachments(text: string): ValidAttachment[] {
  const conf = decode(text);
  const key = VALID_ATTACHMENTS.find((name) => conf[name] !== undefined) ?? VALID_ATTACHMENTS[0];
  const list = conf[key] ?? [];
  if (!Array.isArray(list)) throw invalid(key, 'it is not a list');
  return list.map((item: unknown, index) => {
    const { containerID, ifname } = isRecord(item) ? item : {};
    if (typeof containerID !== 'string' || typeof ifname !== 'string') {
      throw invalid(`${key}[${index}]`, 'it is not an object with containerID and ifname');
    }
    return { containerId: containerID, ifname };
  });
}

/** @throws CniError 6 */
export function decode(text: string): Record<string, unknown> {
  let conf: unknown;
  try {
    conf = JSON.parse(text);
  } catch (error) {
    const cause = text.trim() === '' ? 'it is empty' : error instanceof Error ? error.message : String(error);
    throw new CniError(
      cniCode.decodeFailure,
      `decode stdin: ${cause}`,
      'stdin must be the network configuration as JSON, complete and at most 1 MiB',
    );
  }
  if (!isRecord(conf)) throw new CniError(cniCode.decodeFailure, 'decode stdin: the network configuration is not a JSON object');
  return conf;
}

/** @throws CniError 7 */
export function pluginConfig(conf: Record<string, unknown>): PluginConfig {
  return {
    runDir: directory(conf, 'runDir', '/var/run/culvert'),
    stateDir: directory(conf, 'stateDir', '/var/lib/culvert'),
    onAgentDown: choice(conf, 'onAgentDown', ON_AGENT_DOWN, 'known'),
    statusPolicy: choice(conf, 'statusPolicy', STATUS_POLICY, 'node-ready'),
  };
}

function netConf(conf: Record<string, unknown>, verb: string, since: Version): NetConf {
  const asked = conf['cniVersion'] ?? '0.1.0';
  const cniVersion = supportedVersions.find((version) => version === asked);
  if (cniVersion === undefined) {
    throw new CniError(
      cniCode.incompatibleVersion,
      `read cniVersion: ${JSON.stringify(asked)} is not supported`,
      `set the conflist's cniVersion to one of ${supportedVersions.join(', ')}`,
    );
  }
  if (supportedVersions.indexOf(cniVersion) < supportedVersions.indexOf(since)) {
    throw new CniError(
      cniCode.incompatibleVersion,
      `read cniVersion: ${JSON.stringify(cniVersion)} does not have ${verb}`,
      `${verb} came with ${since}: set the conflist's cniVersion to that or a later one`,
    );
  }
  const { name, ipam } = conf;
  if (typeof name !== 'string' || !NETWORK_NAME.test(name)) {
    throw invalid(
      'name',
      `${name === undefined ? 'nothing' : JSON.stringify(name)} is not a network's name (letters, digits, ".", "_", "-")`,
    );
  }
  if (ipam !== undefined && !(isRecord(ipam) && Object.keys(ipam).length === 0)) {
    throw new CniError(
      cniCode.unsupportedField,
      `read ipam: ${JSON.stringify(ipam)} is not supported, culvert-cni gives no addresses`,
      "remove ipam from culvert-cni's entry in the conflist; the plugin that makes the interface needs it",
    );
  }
  return { cniVersion, name, plugin: pluginConfig(conf) };
}

function choice<T extends string>(conf: Record<string, unknown>, key: string, values: readonly T[], fallback: T): T {
  const asked = conf[key] ?? fallback;
  const value = values.find((known) => known === asked);
  if (value === undefined) throw invalid(key, `${JSON.stringify(asked)} is none of ${values.join(', ')}`);
  return value;
}

function directory(conf: Record<string, unknown>, key: string, fallback: string): string {
  const value = conf[key] ?? fallback;
  if (typeof value !== 'string' || !value.startsWith('/')) throw invalid(key, `${JSON.stringify(value)} is not an absolute path`);
  return value;
}

function checkedResult(value: unknown): PrevResult {
  if (!isRecord(value)) throw invalid('prevResult', 'it is not an object');
  const ips = value['ips'] ?? [];
  if (!Array.isArray(ips) || !ips.every((ip) => isRecord(ip) && typeof ip['address'] === 'string')) {
    throw invalid('prevResult.ips', 'it is not a list of objects with an address');
  }
  return value;
}

function invalid(key: string, cause: string): CniError {
  return new CniError(cniCode.invalidConfig, `read ${key}: ${cause}`, "correct culvert-cni's entry in the conflist");
}
