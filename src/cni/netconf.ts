/** Our entry of the conflist as the runtime passes it on stdin: validated here once, trusted inside. */
import type { PluginConfig } from '../agent/api.ts';
import { CniError, cniCode, isRecord, supportedVersions, type PrevResult } from './spec.ts';

export interface NetConf {
  cniVersion: string;
  plugin: PluginConfig;
  /** undefined when we are the first plugin of the chain, or the only one */
  prevResult: PrevResult | undefined;
}

const ON_AGENT_DOWN = ['closed', 'known', 'open'] as const;

/**
 * @param text the whole of stdin
 * @throws CniError 6 when it is not JSON, 1 for a version that we don't speak, 7 for a wrong value
 */
export function parseNetConf(text: string): NetConf {
  const conf = decode(text);
  const cniVersion = conf['cniVersion'] ?? '0.1.0';
  if (!supportedVersions.some((version) => version === cniVersion)) {
    throw new CniError(
      cniCode.incompatibleVersion,
      `read cniVersion: ${JSON.stringify(cniVersion)} is not supported`,
      `set the conflist's cniVersion to one of ${supportedVersions.join(', ')}`,
    );
  }
  return { cniVersion: cniVersion as string, plugin: pluginConfig(conf), prevResult: prevResult(conf['prevResult']) };
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

export function pluginConfig(conf: Record<string, unknown>): PluginConfig {
  const onAgentDown = conf['onAgentDown'] ?? 'known';
  const policy = ON_AGENT_DOWN.find((value) => value === onAgentDown);
  if (policy === undefined) throw invalid('onAgentDown', `${JSON.stringify(onAgentDown)} is none of ${ON_AGENT_DOWN.join(', ')}`);
  return {
    runDir: directory(conf, 'runDir', '/var/run/culvert'),
    stateDir: directory(conf, 'stateDir', '/var/lib/culvert'),
    onAgentDown: policy,
  };
}

function directory(conf: Record<string, unknown>, key: string, fallback: string): string {
  const value = conf[key] ?? fallback;
  if (typeof value !== 'string' || !value.startsWith('/')) throw invalid(key, `${JSON.stringify(value)} is not an absolute path`);
  return value;
}

function prevResult(value: unknown): PrevResult | undefined {
  if (value === undefined || value === null) return undefined;
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
