/** What istio-cni left on the node. Undefined where there is nothing to say: most nodes never had it. */
import { Netns } from '../../sys/netns.ts';
import type { RedirectDriver } from '../../redirect/driver.ts';
import type { AgentConfig } from '../config.ts';
import { Fault } from './check.ts';

/** Where istio-cni puts what leads the node's connections to a pod with a branch interface of AWS to its veth; the AWS CNI itself: to main only. */
const BRANCH_PREF = 512;
const OWN_TABLES = [253, 254, 255]; // default, main, local

/** @throws Fault */
export function lookAtLeftovers(
  { driver }: { driver: Pick<RedirectDriver, 'leftovers'> },
  { nodeNetns }: Pick<AgentConfig, 'nodeNetns'>,
): string | undefined {
  const left = driver.leftovers?.() ?? [];
  if (left.length > 0) throw new Fault(left.join('; '), 'the detail says what holds it; it is tried again every minute');
  const rules = branchRules(nodeNetns);
  if (rules === 0) return undefined;
  return (
    `${rules} rules of routing policy with priority ${BRANCH_PREF} lead to other tables than main: where istio-cni was, they may be its own for ` +
    'branch interfaces of AWS, and are left; "ip rule" shows them, and a restart of the node takes them off'
  );
}

/** Only where istio-cni makes any: it asks the same sysctl first. */
function branchRules(nodeNetns: string): number {
  using node = Netns.open(nodeNetns);
  if (node.run({ op: 'sysctl-read', path: 'net.ipv4.tcp_early_demux' }).trim() !== '0') return 0;
  return ([4, 6] as const)
    .flatMap((family) => node.run({ op: 'rules', family }))
    .filter(({ pref, action, table }) => pref === BRANCH_PREF && action === 'lookup' && !OWN_TABLES.includes(table)).length;
}
