/**
 * While a pod is ours and istio-cni is about to have it back, istio-cni replaces the local route of table 100 by one without a source,
 * with which a connection that the ebpf driver captures has no address of its own (connect(2) fails: ENETUNREACH). So that none meets
 * that route before ours is gone, a rule before Istio's leads to a table that is ours alone.
 */
import { wire } from '../../maps/layout.ts';
import type { Address, NetnsOp, Rule } from '../../sys/native.ts';
import type { Netns } from '../../sys/netns.ts';
import { native } from '../../sys/native.ts';

const PREF = wire.RULE_PREF - 1;
const TABLE = wire.ROUTE_TABLE + 1;
const SCOPE_UNIVERSE = 0;
const FAMILIES = [4, 6] as const;

/** Whether a rule is one of these, for who looks for others' before ours. */
export function shelters({ pref, mark, table }: Pick<Rule, 'pref' | 'mark' | 'table'>): boolean {
  return pref === PREF && mark === wire.MARK_LOCAL && table === TABLE;
}

/** Routes first: a rule to an empty table leads on to the next. @throws CulvertError SYSTEM */
export function shelter(netns: Netns): void {
  const addresses: Address[] = netns.run({ op: 'addresses' });
  for (const family of FAMILIES) {
    const src = addresses.find((a) => a.family === family && a.scope === SCOPE_UNIVERSE && a.device !== 'lo')?.address;
    if (src !== undefined) netns.runAll([{ op: 'route', add: true, family, table: TABLE, device: 'lo', src }, rule(true, family)]);
  }
}

/** Of a netns that has none, nothing. Never throws: what is left leads nowhere else than Istio's own. */
export function unshelter(netns: Netns): void {
  const ops = FAMILIES.flatMap((family): NetnsOp[] => [
    rule(false, family),
    { op: 'route', add: false, family, table: TABLE, device: 'lo' },
  ]);
  native.netnsRun(netns.fd, ops, true);
}

function rule(add: boolean, family: 4 | 6): NetnsOp {
  return { op: 'rule', add, family, action: 'lookup', mark: wire.MARK_LOCAL, mask: wire.MARK_MASK, pref: PREF, table: TABLE };
}
