/**
 * What an enrolled netns is told, beside its programs: two policy rules and a local route per family, for IPv4 one more per device,
 * three sysctls. No device is touched, but for lo, which is brought up. The rules come first and go last: a packet with our mark that finds
 * no route meets `prohibit`, it never leaves in the clear.
 * That holds for IPv6 also while no device has an IPv6 address: the rules are there wherever the kernel speaks IPv6.
 */
import { CulvertError } from '../../base/errors.ts';
import { wire } from '../../maps/index.ts';
import { native, type Address, type NetnsOp, type NetnsResult, type Route, type Rule } from '../../sys/native.ts';
import type { Netns } from '../../sys/netns.ts';

/** Set to 1 while enrolled. The app's child socket inherits the mark; the kernel's socket-less RST keeps it. */
export const SYSCTLS = ['net/ipv4/tcp_fwmark_accept', 'net/ipv4/fwmark_reflect', 'net/ipv6/fwmark_reflect'] as const;
const LO_IPV6_OFF = 'net/ipv6/conf/lo/disable_ipv6';
const READ = [...SYSCTLS, LO_IPV6_OFF];

type Family = 4 | 6;

/** A netns as read in one entry of it. */
export interface NetnsView {
  addresses: Address[];
  /** values by path; a path that this netns does not have is absent (no IPv6 in the kernel) */
  sysctls: Map<string, string>;
  /** the kernel speaks IPv6 here */
  ipv6: boolean;
  /** what we would set and is there already */
  present: {
    rules: { family: Family; action: Action }[];
    routes: Family[];
    /** with the IPv4 route for sockets that are bound to them */
    devices: string[];
  };
}

type Action = 'lookup' | 'prohibit';

const FAMILIES: Family[] = [4, 6];
const inspectOps: NetnsOp[] = [
  { op: 'addresses' },
  ...READ.map((path): NetnsOp => ({ op: 'sysctl-read', path })),
  ...FAMILIES.flatMap((family): NetnsOp[] => [
    { op: 'rules', family },
    { op: 'routes', family, table: wire.ROUTE_TABLE },
  ]),
];

/** @throws CulvertError SYSTEM */
export function inspectNetns(netns: Netns): NetnsView {
  const results = native.netnsRun(netns.fd, inspectOps, true);
  const value = <T>(index: number): T => {
    const result = results[index];
    if (result?.ok === true) return result.value as T;
    throw refusal(netns, inspectOps[index], result);
  };
  const addresses = value<Address[]>(0);
  const sysctls = new Map<string, string>();
  READ.forEach((path, i) => {
    const result = results[i + 1];
    if (result?.ok === true) sysctls.set(path, String(result.value).trim());
    else if (result?.code !== 'ENOENT') throw refusal(netns, inspectOps[i + 1], result);
  });
  const view: NetnsView = { addresses, sysctls, ipv6: sysctls.has(LO_IPV6_OFF), present: { rules: [], routes: [], devices: [] } };
  for (const family of families(view)) {
    const at = 1 + READ.length + FAMILIES.indexOf(family) * 2;
    for (const rule of value<Rule[]>(at)) {
      if (rule.mark !== wire.MARK_LOCAL || rule.mask !== wire.MARK_MASK) continue;
      if (rule.pref === wire.RULE_PREF && rule.table === wire.ROUTE_TABLE) view.present.rules.push({ family, action: 'lookup' });
      if (rule.pref === wire.RULE_PREF_PROHIBIT && rule.action === 'prohibit') view.present.rules.push({ family, action: 'prohibit' });
    }
    const devices = value<Route[]>(at + 1)
      .filter((r) => isLocalDefault(r) && addresses.some((a) => a.address === r.src))
      .map(({ device }) => device);
    if (devices.includes('lo')) view.present.routes.push(family);
    if (family === 4) view.present.devices = devices.filter((device) => device !== 'lo');
  }
  return view;
}

const SCOPE_UNIVERSE = 0;
/** An address by which others reach the pod: of global scope and not on lo. */
export function isOfPod(address: Address): boolean {
  return address.scope === SCOPE_UNIVERSE && address.device !== 'lo';
}

/** What is missing, prohibit first. Empty when everything is as it should be. */
export function missingSettings(view: NetnsView): NetnsOp[] {
  const ops: NetnsOp[] = [];
  for (const family of families(view)) {
    for (const action of ['prohibit', 'lookup'] as const) {
      if (!view.present.rules.some((r) => r.family === family && r.action === action)) ops.push(rule(true, family, action));
    }
    const src = sourceOf(view, family);
    if (src !== undefined && !view.present.routes.includes(family)) ops.push(route(true, family, src));
  }
  for (const path of SYSCTLS) if (view.sysctls.get(path) === '0') ops.push({ op: 'sysctl', path, value: '1' });
  return ops;
}

type RouteOp = Extract<NetnsOp, { op: 'route' }>;

/**
 * A socket that is bound to a device after its connect(2) was captured, which needs no privilege, sends its next SYN through that
 * device: IPv4 takes a destination for a neighbour where the tables have no route on the device, and asks no `prohibit`. So there is
 * one on each device. IPv6 has no such habit. The metric, their own for each, keeps them beside the route over lo.
 */
export function missingDeviceRoutes(view: NetnsView): RouteOp[] {
  const src = sourceOf(view, 4);
  if (src === undefined) return [];
  const devices = new Map(view.addresses.filter(({ device }) => device !== 'lo').map(({ device, ifindex }) => [device, ifindex]));
  return [...devices]
    .filter(([device]) => !view.present.devices.includes(device))
    .map(([device, metric]) => ({ ...route(true, 4, src), device, metric }));
}

/** A device that is down, or gone since, sends nothing: it has its turn when it is up. @throws CulvertError SYSTEM */
export function putDeviceRoutes(netns: Netns, missing: RouteOp[]): void {
  if (missing.length === 0) return;
  const results = native.netnsRun(netns.fd, missing, true);
  missing.forEach((op, i) => {
    const result = results[i];
    if (result?.ok !== true && !NO_DEVICE.includes(result?.code ?? '')) throw refusal(netns, op, result);
  });
}
const NO_DEVICE = ['ENETDOWN', 'ENODEV', 'ENXIO'];

function isLocalDefault({ type, destination }: Route): boolean {
  return type === 'local' && destination === 'default';
}

/**
 * Sets what is missing. A route over lo needs lo to be up: runtimes attach the loopback network beside the others, so a pod may come
 * before it. They are about to do the same, so it stays up.
 * @throws CulvertError SYSTEM
 */
export function putSettings(netns: Netns, missing: NetnsOp[]): void {
  const early: NetnsOp[] = missing.some(({ op }) => op === 'route') ? [{ op: 'link-up', device: 'lo' }] : [];
  if (missing.length > 0) netns.runAll([...early, ...missing]);
}

/**
 * Takes everything off, prohibit last. Every step is tried: a rule that cannot be deleted is no reason to leave the others.
 * @param keep sysctls that were set before us
 * @param extent without the lookup rule and its route when another redirect goes on using them
 * @throws CulvertError SYSTEM naming the first step that was refused
 */
export function takeSettingsBack(netns: Netns, keep: ReadonlySet<string>, extent: 'all' | 'rule and route stay' = 'all'): void {
  const devices = netns
    .run({ op: 'routes', family: 4, table: wire.ROUTE_TABLE })
    .filter((r) => isLocalDefault(r) && r.device !== 'lo' && r.device !== '');
  const ops: NetnsOp[] = [
    ...SYSCTLS.filter((path) => !keep.has(path)).map((path): NetnsOp => ({ op: 'sysctl', path, value: '0' })),
    ...devices.map(({ device }) => ({ ...route(false, 4), device })),
    ...(extent === 'all'
      ? [...FAMILIES.map((family) => route(false, family)), ...FAMILIES.map((family) => rule(false, family, 'lookup'))]
      : []),
    ...FAMILIES.map((family) => rule(false, family, 'prohibit')),
  ];
  const results = native.netnsRun(netns.fd, ops, true);
  ops.forEach((op, i) => {
    const result = results[i];
    if (result?.ok !== true && !NO_IPV6.includes(result?.code ?? '')) throw refusal(netns, op, result);
  });
}

/** What a kernel without IPv6 says: there was nothing to take back. */
const NO_IPV6 = ['ENOENT', 'EAFNOSUPPORT', 'EOPNOTSUPP'];

/**
 * Source of the local route: the first address a stranger could answer to. Without `src` the kernel would take the destination.
 * Undefined: no such address, or lo carries no IPv6; marked packets of that family then meet `prohibit`.
 */
function sourceOf(view: NetnsView, family: Family): string | undefined {
  if (family === 6 && view.sysctls.get(LO_IPV6_OFF) !== '0') return undefined;
  return view.addresses.find((a) => a.family === family && isOfPod(a))?.address;
}

function rule(add: boolean, family: Family, action: Action): NetnsOp {
  return {
    op: 'rule',
    add,
    family,
    action,
    mark: wire.MARK_LOCAL,
    mask: wire.MARK_MASK,
    pref: action === 'lookup' ? wire.RULE_PREF : wire.RULE_PREF_PROHIBIT,
    table: action === 'lookup' ? wire.ROUTE_TABLE : 0,
  };
}

function route(add: boolean, family: Family, src?: string): RouteOp {
  return { op: 'route', add, family, table: wire.ROUTE_TABLE, device: 'lo', ...(src === undefined ? {} : { src }) };
}

function families(view: { ipv6: boolean }): Family[] {
  return view.ipv6 ? [4, 6] : [4];
}

/** "add rule in netns 4711: EPERM" */
function refusal(netns: Netns, op: NetnsOp | undefined, result: NetnsResult | undefined): CulvertError {
  const verb = op !== undefined && 'add' in op && !op.add ? 'delete' : 'set or read';
  const detail = result?.ok === false ? result : undefined;
  const message = `${verb} ${op?.op ?? ''} in netns ${netns.name}`;
  return new CulvertError(
    'SYSTEM',
    `${message}: ${detail?.code ?? 'not done'}`,
    detail === undefined ? undefined : Object.assign(new Error(detail.code), detail),
  );
}
