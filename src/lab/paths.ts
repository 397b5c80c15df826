/** Where everything of a lab lies. A lab is one directory and one cgroup, both named after it: clean-up needs nothing else. */
import { join } from 'node:path';
import { CulvertError } from '../base/errors.ts';

/** Tests move labs elsewhere, so that "all labs" is never somebody else's. */
export interface LabHome {
  root: string;
  /** prefix of the cgroup's name */
  cgroupPrefix: string;
}

export const defaultHome: LabHome = { root: '/run/culvert-lab', cgroupPrefix: 'culvert-lab-' };
export const defaultLabName = 'default';

/** A node has two places for a tunnel, each with a netns and a cgroup of its own: a new one starts beside the old before that drains. */
export const tunnelSlots = ['ztunnel', 'ztunnel-2'] as const;
export type TunnelSlot = (typeof tunnelSlots)[number];

export interface NodePaths {
  name: string;
  dir: string;
  runDir: string;
  stateDir: string;
  zdsSocket: string;
  /** conflist, result cache and host-local's leases */
  cniDir: string;
  /** recorded processes, one JSON file each */
  pidDir: string;
  pinDir: string;
  netns: string;
  tunnelNetns: string;
  agentLog: string;
  tunnelLog: string;
  /** the second place is made when something starts there */
  tunnels: Record<TunnelSlot, { netns: string; log: string }>;
}

export class LabPaths {
  readonly name: string;
  readonly home: LabHome;
  readonly dir: string;

  /** @throws CulvertError USAGE for a name that is no plain word */
  constructor(name: string, home: LabHome = defaultHome) {
    if (!/^[a-z0-9][a-z0-9-]{0,40}$/.test(name))
      throw new CulvertError('USAGE', `read lab name: "${name}" is not made of a-z, 0-9 and "-"`);
    this.name = name;
    this.home = home;
    this.dir = join(home.root, name);
  }

  get mesh(): string {
    return join(this.dir, 'mesh.yaml');
  }

  /** what the lab found out about its pods and services; read by the file source */
  get state(): string {
    return join(this.dir, 'mesh.yaml.d', 'lab.json');
  }

  get ca(): string {
    return join(this.dir, 'ca');
  }

  /** there only when the lab's tunnels listen to a control plane */
  get controlDir(): string {
    return join(this.dir, 'control');
  }

  /** which tunnel its nodes run */
  get tunnelFile(): string {
    return join(this.dir, 'tunnel.json');
  }

  get controlLog(): string {
    return join(this.dir, 'control.log');
  }

  get bpffs(): string {
    return join(this.dir, 'bpffs');
  }

  /** first entry of CNI_PATH: our plugin */
  get bin(): string {
    return join(this.dir, 'bin');
  }

  get nodesDir(): string {
    return join(this.dir, 'nodes');
  }

  get cgroupName(): string {
    return `${this.home.cgroupPrefix}${this.name}`;
  }

  netns(name: string): string {
    return join(this.dir, 'netns', name);
  }

  podNetns(namespace: string, name: string): string {
    return this.netns(`pod-${namespace}-${name}`);
  }

  podLog(node: string, namespace: string, name: string): string {
    return join(this.nodesDir, node, `pod-${namespace}-${name}.log`);
  }

  node(name: string): NodePaths {
    const dir = join(this.nodesDir, name);
    const first = { netns: this.netns(`${name}-ztunnel`), log: join(dir, 'ztunnel.log') };
    const second = { netns: this.netns(`${name}-ztunnel-2`), log: join(dir, 'ztunnel-2.log') };
    return {
      name,
      dir,
      runDir: join(dir, 'run'),
      stateDir: join(dir, 'state'),
      zdsSocket: join(dir, 'zds.sock'),
      cniDir: join(dir, 'cni'),
      pidDir: join(dir, 'pids'),
      pinDir: join(this.bpffs, name),
      netns: this.netns(name),
      tunnelNetns: first.netns,
      agentLog: join(dir, 'agent.log'),
      tunnelLog: first.log,
      tunnels: { ztunnel: first, 'ztunnel-2': second },
    };
  }
}
