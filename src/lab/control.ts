/**
 * The lab's control plane, when its tunnels listen to one: `culvert control` over the mesh file, in a namespace of its own. Each
 * node's tunnel has a token that says which node it is; the CA's key is read by control only.
 */
import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { join } from 'node:path';
import { CulvertError } from '../base/errors.ts';
import { controlSocket } from '../control/config.ts';
import { localCaPaths } from '../tunnel/local-ca.ts';
import { labCgroup, makeCgroup } from './cgroups.ts';
import { controlAddress, controlNetns } from './network/control-network.ts';
import type { LabPaths } from './paths.ts';
import { isAlive, launch, readRecord, tail, type ProcessRecord } from './processes.ts';
import { selfCommand } from './self.ts';
import { until } from './until.ts';

const PORT = 15012;
export const controlUrl = `https://${controlAddress}:${PORT}`;
const NAMESPACE = 'culvert-system';
const ACCOUNT = 'ztunnel';

/** True for a lab that was brought up with a control plane. */
export function hasControl(lab: LabPaths): boolean {
  return existsSync(lab.controlDir);
}

export function controlRecord(lab: LabPaths): ProcessRecord | undefined {
  return readRecord(lab.controlDir, 'control');
}

/** Makes the directory that marks such a lab, and the tunnels' tokens. */
export function prepareControl(lab: LabPaths, nodes: readonly string[]): void {
  mkdirSync(lab.controlDir, { recursive: true, mode: 0o700 });
  const tokens: Record<string, unknown> = {};
  for (const node of nodes) {
    const token = randomBytes(32).toString('base64url');
    tokens[token] = { namespace: NAMESPACE, serviceAccount: ACCOUNT, node };
    writeFileSync(tunnelToken(lab, node), token, { mode: 0o600 });
  }
  writeFileSync(tokensFile(lab), `${JSON.stringify(tokens, undefined, 1)}\n`, { mode: 0o600 });
}

/** Resolves when it is ready: the mesh is read, xDS and CA answer. @throws CulvertError LAB with the end of its log */
export async function startControl(lab: LabPaths): Promise<void> {
  const record = await launch({
    argv: [
      ...[...selfCommand(), 'control', '--cluster', 'file', '--mesh-file', lab.mesh, '--ca-dir', lab.ca, '--tokens', tokensFile(lab)],
      ...['--address', `${controlAddress}:${PORT}`, '--serving-names', controlAddress, '--run-dir', lab.controlDir],
      ...['--node-accounts', `${NAMESPACE}/${ACCOUNT}`],
    ],
    netns: lab.netns(controlNetns),
    cgroup: makeCgroup(join(labCgroup(lab), 'control')),
    log: lab.controlLog,
    record: { dir: lab.controlDir, name: 'control' },
  });
  await until('control to be ready', 15_000, async () => {
    if (!isAlive(record)) throw new CulvertError('LAB', `start control: it ended; its log ends: ${tail(lab.controlLog)}`);
    return (await answersReady(controlSocket(lab.controlDir))) ? true : undefined;
  });
}

/** What a node's tunnel is told instead of mesh file and CA directory. */
export function controlFlags(lab: LabPaths, node: string): string[] {
  return [
    ...['--xds-address', controlUrl],
    ...['--root-cert', localCaPaths(lab.ca).certificate, '--token-file', tunnelToken(lab, node)],
    ...['--pod-name', `${ACCOUNT}-${node}`, '--pod-namespace', NAMESPACE],
  ];
}

function tokensFile(lab: LabPaths): string {
  return join(lab.controlDir, 'tokens.json');
}

export function tunnelToken(lab: LabPaths, node: string): string {
  return join(lab.controlDir, `${node}.token`);
}

function answersReady(socketPath: string): Promise<boolean> {
  return new Promise((resolve) => {
    const asked = request({ socketPath, path: '/readyz', agent: false }, (response) => {
      response.resume();
      resolve(response.statusCode === 200);
    });
    asked.on('error', () => {
      resolve(false);
    });
    asked.end();
  });
}
