/** A node's agent and tunnel as real processes: the same command lines as in a cluster, every path inside the lab. */
import { existsSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { paths } from '../agent/api.ts';
import { makeCgroup, nodeCgroup } from './cgroups.ts';
import { hasControl } from './control.ts';
import { joinControlNetwork } from './network/control-network.ts';
import { createNetns } from './network/netns.ts';
import type { LabPaths, TunnelSlot } from './paths.ts';
import { launch, readRecord, type ProcessRecord } from './processes.ts';
import { selfCommand } from './self.ts';
import { adminPortUp, connectedToAgent, socketUp } from './started.ts';
import { readTopology } from './topology.ts';
import { checkTunnel, readTunnel, tunnelCommand } from './tunnels.ts';

/** "ztunnel-2": a second tunnel of the lab's kind beside the first. */
export type Daemon = 'agent' | TunnelSlot;
export const daemons: Daemon[] = ['agent', 'ztunnel'];

export function daemonRecord(lab: LabPaths, node: string, daemon: Daemon): ProcessRecord | undefined {
  return readRecord(lab.node(node).pidDir, daemon);
}

/** Resolves when it can be asked. @throws CulvertError LAB with the end of its log, USAGE for a tunnel that cannot be run */
export async function startDaemon(lab: LabPaths, nodeName: string, daemon: Daemon): Promise<void> {
  const node = lab.node(nodeName);
  mkdirSync(node.runDir, { recursive: true });
  mkdirSync(node.stateDir, { recursive: true });
  if (daemon === 'agent') await startAgent(lab, nodeName);
  else await startTunnel(lab, nodeName, daemon);
}

async function startAgent(lab: LabPaths, nodeName: string): Promise<void> {
  const node = lab.node(nodeName);
  const record = await launch({
    argv: [...selfCommand(), 'agent', ...agentFlags(lab, nodeName)],
    netns: node.netns,
    cgroup: makeCgroup(join(nodeCgroup(lab, nodeName), 'agent')),
    log: node.agentLog,
    record: { dir: node.pidDir, name: 'agent' },
  });
  await socketUp(paths.cniSocket(node.runDir), { record, what: `start agent of ${nodeName}`, log: node.agentLog });
}

async function startTunnel(lab: LabPaths, nodeName: string, slot: TunnelSlot): Promise<void> {
  const node = lab.node(nodeName);
  const { netns, log } = node.tunnels[slot];
  const tunnel = readTunnel(lab);
  checkTunnel(tunnel);
  if (!existsSync(netns)) await makePlace(lab, nodeName, netns);
  const { argv, env, door } = tunnelCommand(lab, nodeName, tunnel);
  const cgroup = makeCgroup(join(nodeCgroup(lab, nodeName), slot));
  const record = await launch({ argv, env, netns, cgroup, log, record: { dir: node.pidDir, name: slot } });
  const starting = { record, what: `start ${slot} of ${nodeName}`, log };
  if (door === 'admin-socket') await socketUp(paths.tunnelAdminSocket(node.runDir), starting);
  else if (door === 'admin-port') await adminPortUp(netns, starting);
  else await connectedToAgent(lab, nodeName, cgroup, starting);
}

/** The netns of a second tunnel: the first one's was made with the node. */
async function makePlace(lab: LabPaths, nodeName: string, netns: string): Promise<void> {
  await createNetns(netns);
  if (hasControl(lab)) await joinControlNetwork(lab, netns, readTopology(lab.mesh).topology.nodes.indexOf(nodeName) + 1);
}

function agentFlags(lab: LabPaths, nodeName: string): string[] {
  const node = lab.node(nodeName);
  return [
    ...['--node', nodeName, '--run-dir', node.runDir, '--state-dir', node.stateDir, '--pin-dir', node.pinDir],
    ...['--zds-socket', node.zdsSocket, '--cgroup-root', nodeCgroup(lab, nodeName), '--node-netns', node.netns],
    ...['--source', 'file', '--mesh-file', lab.mesh, '--tunnel', readTunnel(lab) === 'builtin' ? 'builtin' : 'external'],
  ];
}
