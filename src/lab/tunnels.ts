/** Which tunnel a lab's nodes run: the built-in one, Istio's ztunnel, or any other program that speaks ZDS. Kept in the lab's directory. */
import { accessSync, constants, readFileSync, statSync, writeFileSync } from 'node:fs';
import { CulvertError, isSystem } from '../base/errors.ts';
import { controlFlags, controlUrl, hasControl, tunnelToken } from './control.ts';
import type { LabPaths } from './paths.ts';
import { selfCommand } from './self.ts';
import { localCaPaths } from '../tunnel/local-ca.ts';

export type LabTunnel =
  | 'builtin'
  /** path of Istio's executable; it listens to the lab's control plane */
  | { ztunnel: string }
  /** program and arguments; "--zds-socket PATH --node NAME" are appended */
  | { argv: string[] };

/** By what one sees that it runs: its unix socket, port 15000 on its localhost, or its connection to the agent. */
export type TunnelDoor = 'admin-socket' | 'admin-port' | 'zds';

export function writeTunnel(lab: LabPaths, tunnel: LabTunnel): void {
  writeFileSync(lab.tunnelFile, `${JSON.stringify(tunnel)}\n`);
}

export function readTunnel(lab: LabPaths): LabTunnel {
  try {
    return JSON.parse(readFileSync(lab.tunnelFile, 'utf8')) as LabTunnel;
  } catch (error) {
    if (isSystem(error, 'ENOENT')) return 'builtin';
    throw error;
  }
}

export function needsControl(tunnel: LabTunnel): boolean {
  return typeof tunnel === 'object' && 'ztunnel' in tunnel;
}

/** "builtin", or the program's path. */
export function tunnelName(tunnel: LabTunnel): string {
  if (tunnel === 'builtin') return tunnel;
  return 'ztunnel' in tunnel ? tunnel.ztunnel : (tunnel.argv[0] ?? '');
}

/** @throws CulvertError USAGE when its program cannot be run */
export function checkTunnel(tunnel: LabTunnel): void {
  if (tunnel === 'builtin') return;
  const program = tunnelName(tunnel);
  const refuse = (cause: string): never => {
    throw new CulvertError('USAGE', `run tunnel "${program}": ${cause}`);
  };
  if (!program.includes('/')) {
    if ('argv' in tunnel && program !== '') return; // looked for in PATH
    refuse('it must be a path');
  }
  try {
    if (!statSync(program).isFile()) refuse('it is no file');
    accessSync(program, constants.X_OK);
  } catch (error) {
    if (isSystem(error, 'ENOENT') || isSystem(error, 'ENOTDIR')) refuse('there is no such file');
    if (isSystem(error, 'EACCES')) refuse('it is not executable');
    throw error;
  }
}

export interface TunnelCommand {
  argv: string[];
  env: Record<string, string>;
  door: TunnelDoor;
}

export function tunnelCommand(lab: LabPaths, nodeName: string, tunnel: LabTunnel): TunnelCommand {
  const { runDir, zdsSocket } = lab.node(nodeName);
  if (tunnel === 'builtin') {
    const mesh = hasControl(lab) ? controlFlags(lab, nodeName) : ['--mesh-file', lab.mesh, '--ca-dir', lab.ca];
    const argv = [...selfCommand(), 'ztunnel', '--node', nodeName, '--run-dir', runDir, '--zds-socket', zdsSocket, ...mesh];
    return { argv, env: {}, door: 'admin-socket' };
  }
  if ('argv' in tunnel) return { argv: [...tunnel.argv, '--zds-socket', zdsSocket, '--node', nodeName], env: {}, door: 'zds' };
  return { argv: [tunnel.ztunnel], env: istioEnvironment(lab, nodeName), door: 'admin-port' };
}

/** What Istio's chart gives its DaemonSet, as far as it matters here. Logs in JSON, as the built-in tunnel's. */
function istioEnvironment(lab: LabPaths, nodeName: string): Record<string, string> {
  const root = localCaPaths(lab.ca).certificate;
  return {
    PROXY_MODE: 'shared',
    INPOD_UDS: lab.node(nodeName).zdsSocket,
    NODE_NAME: nodeName,
    CLUSTER_ID: 'Kubernetes',
    ...{ XDS_ADDRESS: controlUrl, XDS_ROOT_CA: root, CA_ADDRESS: controlUrl, CA_ROOT_CA: root, AUTH_TOKEN: tunnelToken(lab, nodeName) },
    LOG_FORMAT: 'json',
  };
}
