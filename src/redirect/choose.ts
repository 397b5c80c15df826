/** Which driver a node gets: what the operator says, else the first that can run there; with the reasons why not a better one. */
import { CulvertError } from '../base/errors.ts';
import type { DriverName } from './driver.ts';

export type DriverChoice = 'auto' | DriverName;

/** reasons: one sentence each; of a usable driver, what it lacks */
export interface Usable {
  usable: boolean;
  reasons: readonly string[];
}

export interface Chosen {
  name: DriverName;
  forced: boolean;
  /** why not a better one, one sentence each; empty when it is the best, or forced */
  reasons: string[];
}

export interface Candidates {
  probe: (name: DriverName) => Usable | Promise<Usable>;
  /** the node has probe sets of iptables rules: beside them istio-cni, too, stays with iptables until the node restarts */
  iptablesInUse: () => boolean;
}

/** @throws KERNEL_UNSUPPORTED with every reason when the forced one, or none at all, can run */
export async function chooseDriver(choice: DriverChoice, { probe, iptablesInUse }: Candidates): Promise<Chosen> {
  if (choice !== 'auto') {
    const { usable, reasons } = await probe(choice);
    if (usable) return { name: choice, forced: true, reasons: [] };
    throw new CulvertError('KERNEL_UNSUPPORTED', `use ${choice}, as redirectDriver says: ${reasons.join('; ')}`);
  }
  const why: string[] = [];
  for (const name of inOrder(iptablesInUse)) {
    const { usable, reasons } = await probe(name);
    if (usable) return { name, forced: false, reasons: why };
    why.push(`not ${name}: ${reasons.join('; ')}`);
  }
  throw new CulvertError('KERNEL_UNSUPPORTED', `choose a redirect driver: ${why.join('; ')}`);
}

/** Best first. The node is looked at only when ebpf can not run. */
function* inOrder(iptablesInUse: () => boolean): Generator<DriverName> {
  yield 'ebpf';
  yield* iptablesInUse() ? (['iptables', 'nftables'] as const) : (['nftables', 'iptables'] as const);
}
