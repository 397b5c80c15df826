/** Builds a lab: namespaces and wires, agents and tunnels, then all pods side by side through the CNI chain. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { CulvertError } from '../base/errors.ts';
import { createLocalCa } from '../tunnel/local-ca.ts';
import { cgroup2Mount } from '../sys/cgroup.ts';
import { makeCgroup, nodeCgroup } from './cgroups.ts';
import { prepareControl, startControl } from './control.ts';
import { conflistFor } from './chain/conflist.ts';
import { cniPath, installPlugin } from './chain/plugins.ts';
import { must } from './command.ts';
import { daemons, startDaemon } from './daemons.ts';
import { isUp, takeDown } from './down.ts';
import { buildControlNetwork } from './network/control-network.ts';
import { serviceAddresses } from './network/addresses.ts';
import { buildFabric } from './network/fabric.ts';
import type { LabPaths } from './paths.ts';
import { startPod } from './pods.ts';
import { requireRoot } from './root.ts';
import { settle } from './settled.ts';
import { writeState } from './state.ts';
import { podKey, type Topology } from './topology.ts';
import { checkTunnel, needsControl, tunnelName, writeTunnel, type LabTunnel } from './tunnels.ts';

export interface UpOptions {
  /** one line per step, for people */
  progress?: (line: string) => void;
  /** what the tunnels listen to: the mesh file, or a control plane that reads it (default file; xds for Istio's ztunnel, which knows no file) */
  source?: 'file' | 'xds';
  /** default builtin */
  tunnel?: LabTunnel;
  /** false: only the network and the pods' processes, no agent, no tunnel, no culvert-cni in the chain */
  mesh?: boolean;
}

/** A failure takes down what was built. @throws CulvertError LAB, NOT_ROOT */
export async function bringUp(lab: LabPaths, yaml: string, topology: Topology, options: UpOptions = {}): Promise<void> {
  const say = options.progress ?? ((): void => undefined);
  requireRoot('start lab');
  cgroup2Mount();
  if (options.tunnel !== undefined) checkTunnel(options.tunnel);
  if (isUp(lab))
    throw new CulvertError(
      'LAB',
      `start lab ${lab.name}: it is up already; "culvert lab down --name ${lab.name}" ends it, "--name" starts another beside it`,
    );
  if (await takeDown(lab)) say(`removed what was left of an earlier lab ${lab.name}`);
  try {
    await build(lab, yaml, topology, say, options);
  } catch (error) {
    await takeDown(lab).catch(() => undefined); // the first error is the one to tell; "lab down" finds the rest
    throw error;
  }
}

async function build(
  lab: LabPaths,
  yaml: string,
  topology: Topology,
  say: (line: string) => void,
  { mesh = true, tunnel = 'builtin', source = needsControl(tunnel) ? 'xds' : 'file' }: UpOptions,
): Promise<void> {
  if (source === 'file' && needsControl(tunnel)) throw new CulvertError('USAGE', "start lab: Istio's ztunnel needs source xds");
  cniPath(lab.bin);
  mkdirSync(lab.dir, { recursive: true, mode: 0o755 });
  writeFileSync(lab.mesh, yaml);
  writeTunnel(lab, tunnel);
  writeState(lab, {
    pods: {},
    services: Object.fromEntries(
      topology.services.map((service, i) => [podKey(service), { vips: service.headless ? [] : serviceAddresses(i) }]),
    ),
  });
  installPlugin(lab.bin);
  await Promise.all([buildFabric(lab, topology.nodes), createLocalCa(lab.ca, { name: `culvert lab ${lab.name}` }), mountBpffs(lab)]);
  topology.nodes.forEach((node, i) => {
    prepareNode(lab, node, i + 1, mesh);
  });
  say(`network: ${topology.nodes.length} nodes on one fabric`);
  if (source === 'xds') {
    await buildControlNetwork(lab, topology.nodes);
    prepareControl(lab, topology.nodes);
    await startControl(lab);
    say('control plane: xDS and CA');
  }
  if (mesh) {
    await Promise.all(topology.nodes.flatMap((node) => daemons.map((daemon) => startDaemon(lab, node, daemon))));
    say(`agents and tunnels: ${topology.nodes.join(', ')}${tunnel === 'builtin' ? '' : `, the tunnel is ${tunnelName(tunnel)}`}`);
  }
  await Promise.all(topology.pods.map((pod) => startPod(lab, topology, pod, { onRetry: say })));
  say(`pods: ${topology.pods.map(podKey).join(', ')}`);
  if (mesh) await settle(lab);
}

function prepareNode(lab: LabPaths, name: string, index: number, mesh: boolean): void {
  const node = lab.node(name);
  for (const dir of [node.runDir, node.stateDir, node.cniDir, node.pidDir]) mkdirSync(dir, { recursive: true });
  const conflist = conflistFor(node, index);
  if (!mesh) conflist.plugins = conflist.plugins.filter((plugin) => plugin.type !== 'culvert-cni');
  writeFileSync(join(node.cniDir, '10-culvert.conflist'), `${JSON.stringify(conflist, undefined, 2)}\n`);
  makeCgroup(nodeCgroup(lab, name));
}

/** A bpffs of the lab's own: its pins are apart from the host's and gone with it. */
async function mountBpffs(lab: LabPaths): Promise<void> {
  mkdirSync(lab.bpffs, { recursive: true });
  await must(['mount', '-t', 'bpf', `culvert-lab-${lab.name}`, lab.bpffs]);
}
