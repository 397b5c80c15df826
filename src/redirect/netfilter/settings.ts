/** Policy rule and local route by which answers to a foreign source address stay in the pod; Istio's, without a source address. */
import { CulvertError } from '../../base/errors.ts';
import { wire } from '../../maps/layout.ts';
import { native, type Address, type NetnsOp, type Route, type Rule } from '../../sys/native.ts';
import { Netns } from '../../sys/netns.ts';
import { forgetOpenStreams, spareOpenStreams } from '../open-streams.ts';
import { FAMILIES, type Family } from './rules.ts';

export interface NetnsView {
  /** families that the kernel speaks here */
  families: Family[];
  addresses: Address[];
  /** settings that are not there, as operations that put them there */
  missing: NetnsOp[];
}

const LO_IPV6_OFF = 'net/ipv6/conf/lo/disable_ipv6';
const NOTHING_THERE = ['ENOENT', 'EAFNOSUPPORT', 'EOPNOTSUPP', 'ESRCH'];

const READ: NetnsOp[] = [
  { op: 'addresses' },
  { op: 'sysctl-read', path: LO_IPV6_OFF },
  ...FAMILIES.flatMap((family): NetnsOp[] => [
    { op: 'rules', family },
    { op: 'routes', family, table: wire.ROUTE_TABLE },
  ]),
];

/** @throws CulvertError SYSTEM */
export function inspect(netnsFd: number): NetnsView {
  const results = native.netnsRun(netnsFd, READ, true);
  const value = <T>(index: number): T => {
    const result = results[index];
    if (result?.ok === true) return result.value as T;
    throw new CulvertError('SYSTEM', `read ${READ[index]?.op ?? ''} of a pod's netns: ${result?.message ?? 'not done'}`);
  };
  const six = results[1];
  const families: Family[] = six?.ok === true ? [4, 6] : [4];
  const missing: NetnsOp[] = [];
  for (const family of families) {
    const at = 2 + 2 * FAMILIES.indexOf(family);
    const ruled = value<Rule[]>(at).some(
      ({ pref, mark, mask, table }) =>
        pref === wire.RULE_PREF && mark === wire.MARK_LOCAL && mask === wire.MARK_MASK && table === wire.ROUTE_TABLE,
    );
    if (!ruled) missing.push(rule(true, family));
    // IPv6 may be there, and lo without it: then no answer can come that way
    if (family === 6 && six?.ok === true && String(six.value).trim() !== '0') continue;
    const routed = value<Route[]>(at + 1).some(
      ({ device, type, destination }) => device === 'lo' && type === 'local' && destination === 'default',
    );
    if (!routed) missing.push(route(true, family));
  }
  return { families, addresses: value<Address[]>(0), missing };
}

/**
 * Before any rule: connections that are open, or being opened, are left alone by the rules to come.
 * A route over lo needs lo to be up; runtimes are about to do the same. @throws CulvertError SYSTEM
 */
export function put(netnsFd: number, missing: readonly NetnsOp[]): void {
  spareOpenStreams(Netns.adopt(netnsFd));
  if (missing.length === 0) return;
  const ops: NetnsOp[] = [{ op: 'link-up', device: 'lo' }, ...missing];
  native.netnsRun(netnsFd, ops).forEach((result, i) => {
    if (!result.ok) throw new CulvertError('SYSTEM', `set ${ops[i]?.op ?? ''} in a pod's netns: ${result.message}`);
  });
}

/** Every step is tried. @throws CulvertError SYSTEM naming the first that was refused */
export function takeBack(netnsFd: number): void {
  const ops = FAMILIES.flatMap((family) => [rule(false, family), route(false, family)]);
  native.netnsRun(netnsFd, ops, true).forEach((result, i) => {
    if (!result.ok && !NOTHING_THERE.includes(result.code))
      throw new CulvertError('SYSTEM', `delete ${ops[i]?.op ?? ''} in a pod's netns: ${result.message}`);
  });
  forgetOpenStreams(Netns.adopt(netnsFd));
}

/** "rule of IPv4" */
export function nameOf(op: NetnsOp): string {
  return 'family' in op ? `${op.op} of IPv${op.family}` : op.op;
}

function rule(add: boolean, family: Family): NetnsOp {
  const { RULE_PREF: pref, MARK_LOCAL: mark, MARK_MASK: mask, ROUTE_TABLE: table } = wire;
  return { op: 'rule', add, family, action: 'lookup', mark, mask, pref, table };
}

function route(add: boolean, family: Family): NetnsOp {
  return { op: 'route', add, family, table: wire.ROUTE_TABLE, device: 'lo' };
}
