/** What the agent must find on its host before it puts anything there. */
import { CulvertError } from '../../base/errors.ts';
import { cgroup2Mount } from '../../sys/cgroup.ts';
import { native } from '../../sys/native.ts';
import type { AgentConfig } from '../config.ts';
import { bpffsView, lookAtBpffs } from './bpffs.ts';
import { lookAtCapabilities } from './capabilities.ts';
import { lookAtCgroup } from './cgroup.ts';
import { judge, type Check } from './check.ts';
import { lookAtNodeNetns } from './node-netns.ts';
import { lookAtProcfs, procView } from './procfs.ts';
import { lookAtSysctls } from './sysctls.ts';

type Host = Pick<AgentConfig, 'source' | 'procRoot' | 'pinDir' | 'cgroupRoot' | 'nodeNetns'>;

/** Everything that can be seen without the datapath. A node of a cluster is held to more than one of a lab, which is made up. */
export async function hostChecks({ source, procRoot, pinDir, cgroupRoot, nodeNetns }: Host): Promise<Check[]> {
  native.sysctlProc(procRoot);
  const node = source === 'kubernetes' ? procRoot : undefined;
  return [
    await judge('capabilities', () => lookAtCapabilities()),
    await judge('procfs', () => (node === undefined ? procRoot : lookAtProcfs(procView(node)))),
    await judge('node network', () => lookAtNodeNetns(nodeNetns, node), 'name the network namespace of the node in nodeNetns'),
    await judge('cgroup v2', () => lookAtCgroup(cgroupRoot)),
    await judge('bpffs', () => lookAtBpffs(bpffsView(pinDir, node)), "set hostPID: true, and mount the host's /proc at procRoot"),
    await judge('sysctls', () => lookAtSysctls(procRoot)),
  ];
}

/** @returns cgroup v2 directory below which pods and tunnels run. @throws HOST_UNSUITABLE naming every fault with its remedy */
export async function proveHost(host: Host): Promise<string> {
  const faults = (await hostChecks(host)).filter(({ ok }) => !ok);
  if (faults.length > 0)
    throw new CulvertError(
      'HOST_UNSUITABLE',
      `start agent: ${faults.map(({ name, detail, remedy }) => `${name}: ${detail} (remedy: ${remedy})`).join('; ')}`,
    );
  return host.cgroupRoot ?? cgroup2Mount();
}
