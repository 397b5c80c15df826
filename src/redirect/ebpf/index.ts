/** Redirect by eBPF: see design notes in driver.ts (the verbs), install.ts (the node's part), join.ts and leave.ts (one netns). */
import { closeSync, openSync } from 'node:fs';
import { CulvertError } from '../../base/errors.ts';
import type { Logger } from '../../base/log.ts';
import { EbpfDriver } from './driver.ts';
import { install, type Installed } from './install.ts';
import { KubeletCgroups } from './kubelet.ts';
import { Node } from './node.ts';
import { constantsOf, probeEbpf, type EbpfProbe } from './probe.ts';
import { Settings } from './settings.ts';

export { EbpfDriver } from './driver.ts';
export { CGROUP_PROGRAMS, cgroupPrograms } from './attach-points.ts';
export { kernelHasBpf, probeEbpf, type EbpfProbe } from './probe.ts';
export { uninstallEbpf } from './uninstall.ts';

export interface EbpfOptions {
  /** culvert.bpf.o */
  object: Uint8Array;
  /** directory on bpffs, made when absent; one per agent */
  pinDir: string;
  /** directory of cgroup v2 below which all pods, tunnels and node processes live */
  cgroupRoot: string;
  /** path of the node's netns; its sockets are exempt as probes */
  nodeNetns: string;
  /** a procfs of the host's pid namespace; default "/proc" */
  procRoot?: string;
  /** whose sockets of the node's netns are exempt; default "node": every process's */
  probeExemption?: 'node' | 'kubelet';
  /** kubelet's cgroup v2 directories below `cgroupRoot` ("/system.slice/kubelet.service"); default: where its process is found */
  kubeletCgroups?: readonly string[];
  /** whose pins these are: stable over restarts, different for every agent on a kernel */
  instance: bigint;
  /** of Culvert, for people who read the pins */
  version?: string;
  /** pods this node may run; map sizes derive from it */
  maxPods: number;
  log: Logger;
}

/**
 * Installs the datapath or adopts what is pinned, and sweeps leftovers of this instance.
 * @throws CulvertError KERNEL_UNSUPPORTED with every reason; PIN_FOREIGN, PIN_BUSY, MAP_LAYOUT, VERIFIER; CGROUP_ROOT also
 *   when only kubelet is to be exempt and its cgroup can't be told
 */
export function createEbpfDriver(o: EbpfOptions): EbpfDriver {
  const probe = probeEbpf(o);
  if (!probe.usable) throw new CulvertError('KERNEL_UNSUPPORTED', `use ebpf: ${probe.reasons.join('; ')}`);
  for (const reason of probe.reasons) o.log.warn({ reason }, 'the kernel lacks a feature');
  const kubelet = o.probeExemption === 'kubelet' ? kubeletOf(o) : undefined;
  kubelet?.ids(); // an error before anything is changed
  const nodeNetnsFd = openSync(o.nodeNetns, 'r');
  try {
    const installed = install({
      object: o.object,
      pinDir: o.pinDir,
      cgroupRoot: o.cgroupRoot,
      nodeNetnsFd,
      instance: o.instance,
      version: o.version ?? '',
      maxPods: o.maxPods,
      constants: constantsOf(probe, o.instance, kubelet !== undefined),
      fill: (maps) => kubelet?.refresh(maps),
    });
    o.log.info({ pinDir: o.pinDir, ...installed.report, sizes: installed.sizes }, 'datapath installed');
    try {
      return drive(o, installed, probe, kubelet);
    } catch (error) {
      installed.close();
      throw error;
    }
  } finally {
    closeSync(nodeNetnsFd);
  }
}

function kubeletOf({ cgroupRoot, nodeNetns, procRoot = '/proc', kubeletCgroups: paths = [] }: EbpfOptions): KubeletCgroups {
  return new KubeletCgroups({ paths, cgroupRoot, procRoot, nodeNetns });
}

function drive(o: EbpfOptions, installed: Installed, probe: EbpfProbe, kubelet: KubeletCgroups | undefined): EbpfDriver {
  const { nodeNetns, procRoot = '/proc', log } = o;
  const { maps } = installed;
  const settings = new Settings(maps);
  const node = new Node({ kubelet, nodeNetns, settings, maps, log });
  try {
    return new EbpfDriver({ installed, probe, kubeletOnly: kubelet !== undefined, settings, node, procRoot, log });
  } catch (error) {
    node.close();
    throw error;
  }
}
