/** Opens the node's driver, and what serves pods from before: what the agent calls, once. */
import type { Logger } from '../base/log.ts';
import { openPinnedMaps } from '../maps/index.ts';
import { isSystem } from '../base/errors.ts';
import { Netns } from '../sys/netns.ts';
import { chooseDriver, type DriverChoice, type Usable } from './choose.ts';
import type { DriverName, RedirectDriver } from './driver.ts';
import { createEbpfDriver, probeEbpf, uninstallEbpf, type EbpfOptions } from './ebpf/index.ts';
import { SeveralDrivers, type SeveralOptions } from './several.ts';

type NetfilterName = Exclude<DriverName, 'ebpf'>;

/** Drivers that program rules, both kinds. */
export interface NetfilterDrivers {
  probe: (kind: NetfilterName) => Promise<Usable>;
  /** @throws KERNEL_UNSUPPORTED */
  create: (kind: NetfilterName) => Promise<RedirectDriver>;
  /** pods of an earlier run that this kind serves */
  serves: (kind: NetfilterName) => boolean;
  /** Everything of this kind off the node; its driver is closed. */
  uninstall: (kind: NetfilterName) => Promise<void>;
}

export interface OpenOptions {
  choice: DriverChoice;
  /** object: culvert.bpf.o, read only when it is used */
  ebpf: Omit<EbpfOptions, 'object'> & { object: () => Uint8Array };
  netfilter: NetfilterDrivers;
  tunnels: () => readonly number[];
  istio: SeveralOptions['istio'];
  log: Logger;
}

/** How long captured connections of a driver that is taken off may go on: none, as it serves nobody. */
const RETIRE_DEADLINE_MS = 0;

/** @throws KERNEL_UNSUPPORTED with every reason when the forced driver, or none at all, can run; whatever installing it throws */
export async function openRedirect({ choice, ebpf, netfilter, tunnels, istio, log }: OpenOptions): Promise<SeveralDrivers> {
  const probe = (name: DriverName): Usable | Promise<Usable> => (name === 'ebpf' ? probeEbpf(ebpf) : netfilter.probe(name));
  const create = async (name: DriverName): Promise<RedirectDriver> => {
    if (name === 'ebpf') return createEbpfDriver({ ...ebpf, object: ebpf.object(), log });
    return netfilter.create(name);
  };
  const uninstall = async (name: DriverName): Promise<void> => {
    const { pinDir, instance, procRoot = '/proc' } = ebpf;
    if (name === 'ebpf') await uninstallEbpf({ pinDir, instance, procRoot, deadlineMs: RETIRE_DEADLINE_MS, force: false, log });
    else await netfilter.uninstall(name);
  };
  const chosen = await chooseDriver(choice, { probe, iptablesInUse: () => hasProbeSets(ebpf.nodeNetns) });
  log.info({ driver: chosen.name, forced: chosen.forced, reasons: chosen.reasons }, 'redirect driver chosen');
  const open: RedirectDriver[] = [];
  try {
    const driver = await create(chosen.name);
    open.push(driver);
    const held: RedirectDriver[] = [];
    for (const name of ['ebpf', 'iptables', 'nftables'] as const) {
      if (name === chosen.name) continue;
      const pods = name === 'ebpf' ? pinnedPods(ebpf.pinDir) : netfilter.serves(name);
      if (pods === 'no pins' || pods === false) continue;
      if (pods === 0) {
        await uninstall(name);
        continue;
      }
      const other = await create(name);
      open.push(other);
      held.push(other);
      log.info({ driver: name }, 'pods that another redirect driver serves are moved to this one');
    }
    return new SeveralDrivers({
      chosen: driver,
      forced: chosen.forced,
      reasons: chosen.reasons,
      held,
      open: create,
      retire: async (retired) => {
        retired.close();
        await uninstall(retired.name);
      },
      tunnels,
      istio,
      log,
    });
  } catch (error) {
    for (const driver of open) driver.close();
    throw error;
  }
}

/** Sets of probed pods that rules of iptables use, istio-cni's or ours. */
function hasProbeSets(nodeNetns: string): boolean {
  const node = Netns.open(nodeNetns);
  try {
    const sets = ['istio', 'culvert'].flatMap((whose) =>
      ['v4', 'v6'].map((family) => `${whose === 'istio' ? 'istio-inpod' : whose}-probes-${family}`),
    );
    return sets.some((name) => node.run({ op: 'ipset-references', name }) > 0);
  } finally {
    node.close();
  }
}

/** Read from the pins, without loading a program. */
function pinnedPods(pinDir: string): number | 'no pins' {
  try {
    const maps = openPinnedMaps(`${pinDir}/maps`);
    try {
      return maps.pods.entries().length;
    } finally {
      maps.close();
    }
  } catch (error) {
    if (isSystem(error, 'ENOENT')) return 'no pins';
    throw error;
  }
}
