/** `culvert doctor`: every check there is, by the agent itself where one runs, and as much as can be seen without one where not. */
import { existsSync } from 'node:fs';
import { cgroup2Mount } from '../sys/cgroup.ts';
import type { KubeApi } from '../kubernetes/api.ts';
import { builtPlugin } from '../sys/assets.ts';
import type { Known } from './answers.ts';
import { lookAtApiServer, neededPermissions } from './checks/api-server.ts';
import { judge, type Check } from './checks/check.ts';
import { lookAtChain } from './checks/cni-chain.ts';
import { lookAtSockets } from './checks/doors.ts';
import { hostChecks } from './checks/host.ts';
import { lookAtHooks } from './checks/hooks.ts';
import { lookAtLeftovers } from './checks/istio-cni.ts';
import { lookAtKernel } from './checks/kernel.ts';
import { lookAtDriver, lookAtPods, lookAtSource, lookAtTunnel } from './checks/running.ts';
import type { AgentConfig } from './config.ts';

export interface Examined {
  config: AgentConfig;
  api: Pick<KubeApi, 'create'> | undefined;
  /** undefined: no agent runs */
  known: Known | undefined;
}

/** Changes nothing. */
export async function examine({ config, api, known }: Examined): Promise<Check[]> {
  const { pinDir, nodeNetns, runDir, probeExemption } = config;
  const cgroupRoot = (): string => config.cgroupRoot ?? cgroup2Mount();
  const checks: Promise<Check>[] = [
    ...(usesBpf(config, known)
      ? [
          judge('kernel', () => lookAtKernel({ pinDir, cgroupRoot: cgroupRoot(), nodeNetns, probeExemption })),
          judge('hooks', () => lookAtHooks(cgroupRoot(), pinDir)),
        ]
      : []),
    judge('sockets', () => lookAtSockets(runDir)),
    judge('CNI chain', () => lookAtChain({ ...config, plugin: pluginOf(config) })),
  ];
  if (api !== undefined) {
    const permissions = neededPermissions(config.daemonSet);
    checks.push(
      judge(
        'API server',
        () => lookAtApiServer(api, permissions),
        'look whether the API server is reachable from here, and at the token of the pod',
      ),
    );
  }
  if (known !== undefined) {
    checks.push(
      judge('driver', () => lookAtDriver(known)),
      judge('source', () => lookAtSource(known)),
      judge('tunnel', () => lookAtTunnel(known)),
      judge('pods', () => lookAtPods(known)),
    );
    const left = await judge('istio-cni', () => lookAtLeftovers(known, config) ?? '');
    if (!left.ok || left.detail !== '') checks.push(Promise.resolve(left));
  }
  return [...(await hostChecks(config)), ...(await Promise.all(checks))];
}

/** A node whose driver programs rules has no programs to look for. */
function usesBpf({ redirectDriver }: AgentConfig, known: Known | undefined): boolean {
  return known === undefined ? redirectDriver === 'auto' || redirectDriver === 'ebpf' : known.driver.name === 'ebpf';
}

function pluginOf(config: AgentConfig): string | undefined {
  const path = config.pluginPath ?? builtPlugin();
  return existsSync(path) ? path : undefined;
}
