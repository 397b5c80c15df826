/** What the agent must find on its host before it puts anything there. */
import { CulvertError } from '../../base/errors.ts';
import { cgroup2Mount } from '../../sys/cgroup.ts';
import { native } from '../../sys/native.ts';
import type { AgentConfig } from '../config.ts';
import { bpffsView, lookAtBpffs } from './bpffs.ts';
import { lookAtCapabilities } from './capabilities.ts';
import { lookAtCgroup } from './cgroup.ts';
import { judge, type Check } from './check.ts';
import { kernelHasBpf } from '../../redirect/ebpf/index.ts';
import { lookAtNodeNetns } from './node-netns.ts';
import { lookAtProcfs, procView } from './procfs.ts';
import { lookAtSysctls } from './sysctls.ts';

type Host = Pick<AgentConfig, 'source' | 'procRoot' | 'pinDir' | 'cgroupRoot' | 'nodeNetns' | 'redirectDriver'>;

/** Everything that can be seen without the datapath. A node of a cluster is held to more than one of a lab, which is made up. */
export async function hostChecks({ source, procRoot, pinDir, cgroupRoot, nodeNetns, redirectDriver }: Host): Promise<Check[]> {
  native.sysctlProc(procRoot);
  const node = source === 'kubernetes' ? procRoot : undefined;
  return [
    await judge('capabilities', () => lookAtCapabilities()),
    await judge('procfs', () => (node === undefined ? procRoot : lookAtProcfs(procView(node)))),
    await judge('node network', () => lookAtNodeNetns(nodeNetns, node), 'name the network namespace of the node in nodeNetns'),
    ...(mayUseBpf(redirectDriver)
      ? [
          await judge('cgroup v2', () => lookAtCgroup(cgroupRoot)),
          await judge('bpffs', () => lookAtBpffs(bpffsView(pinDir, node)), "set hostPID: true, and mount the host's /proc at procRoot"),
        ]
      : []),
    await judge('sysctls', () => lookAtSysctls(procRoot)),
  ];
}

/** Pins that are only out of sight go on capturing: with auto, what hides them is a fault, not a reason for another driver. */
function mayUseBpf(driver: AgentConfig['redirectDriver']): boolean {
  return driver === 'ebpf' || (driver === 'auto' && kernelHasBpf());
}

/** @returns cgroup v2 directory below which pods and tunnels run; "" where only rules are used and there is none. @throws HOST_UNSUITABLE naming every fault with its remedy */
export async function proveHost(host: Host): Promise<string> {
  const faults = (await hostChecks(host)).filter(({ ok }) => !ok);
  if (faults.length > 0)
    throw new CulvertError(
      'HOST_UNSUITABLE',
      `start agent: ${faults.map(({ name, detail, remedy }) => `${name}: ${detail} (remedy: ${remedy})`).join('; ')}`,
    );
  return host.cgroupRoot ?? (mayUseBpf(host.redirectDriver) ? cgroup2Mount() : '');
}
