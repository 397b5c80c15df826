/** A node's agent and tunnel as real processes: the same command lines as in a cluster, every path inside the lab. */
import { existsSync, watch } from 'node:fs';
import { mkdirSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { connect } from 'node:net';
import { paths } from '../agent/api.ts';
import { CulvertError } from '../base/errors.ts';
import { makeCgroup, nodeCgroup } from './cgroups.ts';
import { controlFlags, hasControl } from './control.ts';
import type { LabPaths } from './paths.ts';
import { isAlive, launch, readRecord, tail, type ProcessRecord } from './processes.ts';
import { selfCommand } from './self.ts';

export type Daemon = 'agent' | 'ztunnel';
export const daemons: Daemon[] = ['agent', 'ztunnel'];

export function daemonRecord(lab: LabPaths, node: string, daemon: Daemon): ProcessRecord | undefined {
  return readRecord(lab.node(node).pidDir, daemon);
}

/** Resolves when its socket is there. @throws CulvertError LAB with the end of its log */
export async function startDaemon(lab: LabPaths, nodeName: string, daemon: Daemon): Promise<void> {
  const node = lab.node(nodeName);
  const agent = daemon === 'agent';
  const log = agent ? node.agentLog : node.tunnelLog;
  const socket = agent ? paths.cniSocket(node.runDir) : paths.tunnelAdminSocket(node.runDir);
  mkdirSync(node.runDir, { recursive: true });
  mkdirSync(node.stateDir, { recursive: true });
  const record = await launch({
    argv: [...selfCommand(), daemon, ...(agent ? agentFlags(lab, nodeName) : tunnelFlags(lab, nodeName))],
    netns: agent ? node.netns : node.tunnelNetns,
    cgroup: makeCgroup(join(nodeCgroup(lab, nodeName), daemon)),
    log,
    record: { dir: node.pidDir, name: daemon },
  });
  await socketUp(socket, record, `start ${daemon} of ${nodeName}`, log);
}

function agentFlags(lab: LabPaths, nodeName: string): string[] {
  const node = lab.node(nodeName);
  return [
    ...['--node', nodeName, '--run-dir', node.runDir, '--state-dir', node.stateDir, '--pin-dir', node.pinDir],
    ...['--zds-socket', node.zdsSocket, '--cgroup-root', nodeCgroup(lab, nodeName), '--node-netns', node.netns],
    ...['--source', 'file', '--mesh-file', lab.mesh],
  ];
}

function tunnelFlags(lab: LabPaths, nodeName: string): string[] {
  const node = lab.node(nodeName);
  const mesh = hasControl(lab) ? controlFlags(lab, nodeName) : ['--mesh-file', lab.mesh, '--ca-dir', lab.ca];
  return ['--node', nodeName, '--run-dir', node.runDir, '--zds-socket', node.zdsSocket, ...mesh];
}

/** Waits for a connectable unix socket: its directory is watched, and the process must not die meanwhile. */
async function socketUp(path: string, record: ProcessRecord, what: string, log: string): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    const watcher = watch(dirname(path), (_, file) => {
      if (file === basename(path)) probe();
    });
    const done = (act: () => void): void => {
      watcher.close();
      clearInterval(alive);
      clearTimeout(deadline);
      act();
    };
    const failed = (cause: string): void => {
      done(() => {
        reject(new CulvertError('LAB', `${what}: ${cause}; its log ends: ${tail(log)}`));
      });
    };
    const probe = (): void => {
      if (!existsSync(path)) return;
      const socket = connect(path);
      socket.once('connect', () => {
        socket.destroy();
        done(resolve);
      });
      socket.once('error', () => undefined); // a stale file of the one before; the new one makes another event
    };
    const alive = setInterval(() => {
      if (isAlive(record)) probe();
      else failed('it ended');
    }, 100);
    const deadline = setTimeout(() => {
      failed('its socket did not appear within 15 s');
    }, 15_000);
    probe();
  });
}
