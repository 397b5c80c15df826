/** The redirect of this agent, as its configuration asks for it. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { Logger } from '../base/log.ts';
import { version } from '../base/version.ts';
import type { RedirectDriver } from '../redirect/driver.ts';
import { IstioOnNode, IstioRules, netnsOfProcesses } from '../redirect/istio-cni/index.ts';
import {
  createNetfilterDriver,
  probeNetfilter,
  servesNetfilter,
  uninstallNetfilter,
  type NetfilterKind,
} from '../redirect/netfilter/index.ts';
import { openRedirect, type NetfilterDrivers } from '../redirect/open.ts';
import { bpfObject } from '../sys/native.ts';
import type { AgentConfig } from './config.ts';
import { instanceId } from './instance.ts';

export const NETFILTER_KINDS: readonly NetfilterKind[] = ['iptables', 'nftables'];

export interface DriversOptions {
  config: AgentConfig;
  cgroupRoot: string;
  /** pids of the tunnels that are connected */
  tunnels: () => readonly number[];
  log: Logger;
}

/** Beside the sockets, because what it says of the kernel ends with a reboot. */
const stateDirOf = (runDir: string, kind: NetfilterKind): string => join(runDir, 'netfilter', kind);

/** Everything of one kind off the node; nothing of it runs. @returns "namespace/name" of the pods that it served */
export function removeNetfilter(
  config: Pick<AgentConfig, 'runDir' | 'nodeNetns' | 'procRoot'>,
  kind: NetfilterKind,
  deadlineMs: number,
  log: Logger,
): Promise<string[]> {
  const { runDir, nodeNetns, procRoot } = config;
  const stateDir = stateDirOf(runDir, kind);
  if (!existsSync(stateDir)) return Promise.resolve([]); // it never ran
  return uninstallNetfilter({ kind, nodeNetns, stateDir, procRoot, log, deadlineMs });
}

function netfilterOf(config: AgentConfig, log: Logger): NetfilterDrivers {
  const { runDir, nodeNetns, procRoot } = config;
  const options = (kind: NetfilterKind) => ({ kind, nodeNetns, stateDir: stateDirOf(runDir, kind), procRoot, log });
  return {
    probe: (kind) => probeNetfilter(kind, options(kind)),
    create: (kind) => createNetfilterDriver(options(kind)),
    serves: (kind) => existsSync(stateDirOf(runDir, kind)) && servesNetfilter(options(kind)),
    uninstall: async (kind) => {
      await removeNetfilter(config, kind, 0, log);
    },
  };
}

/** /var/run is a link on most nodes, and an absolute one leads nowhere in another's view of the files. */
const ISTIO_SOCKETS = ['/run/istio-cni/pluginevent.sock', '/var/run/istio-cni/pluginevent.sock'];

/** @param alone the node is this machine: its processes are the node's; not so in a lab */
export function istioOnNode(
  { nodeNetns, procRoot }: Pick<AgentConfig, 'nodeNetns' | 'procRoot'>,
  alone: boolean,
  deadlineMs: number,
  log: Logger,
): IstioOnNode {
  const root = procRoot === '/proc' ? '' : `${procRoot}/1/root`; // a container has other files than its node
  return new IstioOnNode({
    nodeNetns,
    deadlineMs,
    log,
    lockFile: `${root}/run/xtables.lock`,
    sockets: ISTIO_SOCKETS.map((path) => `${root}${path}`),
    others: () => (alone ? netnsOfProcesses(procRoot) : []),
  });
}

/** What istio-cni left on the node, once nothing of ours serves pods there. @returns why something is left; undefined: nothing is */
export async function removeIstioFromNode(...of: Parameters<typeof istioOnNode>): Promise<string | undefined> {
  const left = istioOnNode(...of);
  await left.clear(() => [], true);
  await left.settled();
  return left.warning;
}

export function openDrivers({ config, cgroupRoot, tunnels, log }: DriversOptions): Promise<RedirectDriver> {
  const {
    redirectDriver,
    pinDir,
    nodeNetns,
    procRoot,
    probeExemption,
    kubeletCgroup,
    stateDir,
    maxPods,
    istioRules,
    leaveDeadlineMs,
    runDir,
    source,
  } = config;
  return openRedirect({
    choice: redirectDriver,
    ebpf: {
      object: bpfObject,
      pinDir,
      cgroupRoot,
      nodeNetns,
      procRoot,
      probeExemption,
      kubeletCgroups: kubeletCgroup,
      instance: instanceId(stateDir),
      version,
      maxPods,
      log,
    },
    netfilter: netfilterOf(config, log),
    tunnels,
    istio: new IstioRules({
      keep: istioRules === 'keep',
      deadlineMs: leaveDeadlineMs,
      lockFile: join(runDir, 'netfilter/xtables.lock'),
      node: istioOnNode(config, source === 'kubernetes', leaveDeadlineMs, log),
      log,
    }),
    log,
  });
}
