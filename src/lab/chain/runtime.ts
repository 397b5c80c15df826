/**
 * The part of a container runtime that calls CNI plugins, by libcni's rules: ADD in order with the last result as prevResult,
 * DEL backwards with the cached result, CHECK in order with it, GC with what is in use; one JSON document on stdin, CNI_* in the
 * environment.
 */
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { CulvertError, isSystem } from '../../base/errors.ts';
import { attempt } from '../command.ts';
import { inNetns } from '../network/netns.ts';
import type { Conflist } from './conflist.ts';
import { findPlugin } from './plugins.ts';

export interface Sandbox {
  containerId: string;
  netns: string;
  ifname: string;
  /** K8S_POD_… pairs */
  args: Record<string, string>;
}

export interface ChainResult {
  cniVersion: string;
  ips: { address: string }[];
}

export interface ChainEnvironment {
  conflist: Conflist;
  /** the node's own netns, in which plugins run */
  nodeNetns: string;
  cniPath: string[];
  cacheDir: string;
}

/** A plugin's own error object, kept for the caller's decision to try again. */
export class PluginFailed extends CulvertError {
  readonly plugin: string;
  readonly cniCode: number;

  constructor(plugin: string, verb: string, cniCode: number, message: string) {
    super('LAB', `run ${plugin} ${verb}: ${message} (CNI code ${cniCode})`);
    this.plugin = plugin;
    this.cniCode = cniCode;
  }
}

/** @throws PluginFailed; the caller deletes the half-made sandbox, as runtimes do */
export async function addNetwork(chain: ChainEnvironment, sandbox: Sandbox): Promise<ChainResult> {
  let result: unknown;
  for (const entry of chain.conflist.plugins) result = await invoke(chain, sandbox, 'ADD', entry, result);
  mkdirSync(chain.cacheDir, { recursive: true });
  writeFileSync(cacheFile(chain, sandbox), JSON.stringify(result));
  return result as ChainResult;
}

/** @throws PluginFailed of the first plugin that refuses */
export async function delNetwork(chain: ChainEnvironment, sandbox: Sandbox): Promise<void> {
  const cached = readCache(chain, sandbox);
  for (const entry of chain.conflist.plugins.toReversed()) await invoke(chain, sandbox, 'DEL', entry, cached);
  rmSync(cacheFile(chain, sandbox), { force: true });
}

/** @throws PluginFailed of the first plugin that finds something wrong */
export async function checkNetwork(chain: ChainEnvironment, sandbox: Sandbox): Promise<void> {
  const cached = readCache(chain, sandbox);
  for (const entry of chain.conflist.plugins) await invoke(chain, sandbox, 'CHECK', entry, cached);
}

/** Of a conflist of 1.1.0. @param valid sandboxes that still exist @throws PluginFailed of the first plugin that could not */
export async function collectGarbage(chain: ChainEnvironment, valid: Sandbox[]): Promise<void> {
  const list = valid.map(({ containerId, ifname }) => ({ containerID: containerId, ifname }));
  const nobody: Sandbox = { containerId: '', netns: '', ifname: '', args: {} };
  // both names: the specification's first draft had the second
  for (const entry of chain.conflist.plugins)
    await invoke(chain, nobody, 'GC', { ...entry, 'cni.dev/valid-attachments': list, 'cni.dev/attachments': list }, undefined);
}

async function invoke(
  chain: ChainEnvironment,
  sandbox: Sandbox,
  verb: 'ADD' | 'DEL' | 'CHECK' | 'GC',
  entry: Conflist['plugins'][number],
  prevResult: unknown,
): Promise<unknown> {
  const { name, cniVersion } = chain.conflist;
  const conf = { ...entry, name, cniVersion, ...(prevResult === undefined ? {} : { prevResult }) };
  const env = {
    PATH: process.env['PATH'] ?? '/usr/sbin:/usr/bin:/sbin:/bin',
    CNI_COMMAND: verb,
    CNI_CONTAINERID: sandbox.containerId,
    CNI_NETNS: sandbox.netns,
    CNI_IFNAME: sandbox.ifname,
    CNI_PATH: chain.cniPath.join(':'),
    CNI_ARGS: Object.entries(sandbox.args)
      .map(([key, value]) => `${key}=${value}`)
      .join(';'),
  };
  const done = await attempt(inNetns(chain.nodeNetns, [findPlugin(entry.type, chain.cniPath)]), {
    input: JSON.stringify(conf),
    env,
    timeoutMs: 30_000,
  });
  if (done.code !== 0) throw failure(entry.type, verb, done);
  return verb === 'ADD' ? answer(entry.type, done.stdout) : undefined;
}

function answer(plugin: string, stdout: string): unknown {
  try {
    return JSON.parse(stdout);
  } catch {
    throw new PluginFailed(plugin, 'ADD', 6, `its result is not JSON: ${stdout.slice(0, 200)}`);
  }
}

function failure(plugin: string, verb: string, done: { code: number; stdout: string; stderr: string }): PluginFailed {
  try {
    const { code, msg, details } = JSON.parse(done.stdout) as { code: number; msg: string; details?: string };
    return new PluginFailed(plugin, verb, code, details === undefined || details === '' ? msg : `${msg}; ${details}`);
  } catch {
    return new PluginFailed(plugin, verb, 0, `exit code ${done.code}: ${(done.stderr || done.stdout).trim().slice(-300)}`);
  }
}

function readCache(chain: ChainEnvironment, sandbox: Sandbox): unknown {
  try {
    return JSON.parse(readFileSync(cacheFile(chain, sandbox), 'utf8'));
  } catch (error) {
    if (isSystem(error, 'ENOENT')) return undefined;
    throw error;
  }
}

function cacheFile(chain: ChainEnvironment, sandbox: Sandbox): string {
  return join(chain.cacheDir, `${chain.conflist.name}-${sandbox.containerId}-${sandbox.ifname}.json`);
}
