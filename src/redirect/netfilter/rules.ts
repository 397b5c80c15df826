/**
 * What Istio programs into a pod's netns, as data: one list that both iptables and nftables are rendered from (the facts are
 * those of istio-cni's in-pod rules; the names are ours, so that the two can be told apart). Pure.
 *
 * Three things are in the kernel by stage: `mangle` and `raw` from `prepared` on, for they capture nothing; the capture itself in
 * two chains of `nat` while `active`; the same two chains without a jump to them while `draining`, by which a draining netns is told
 * from a prepared one. Translation of what was captured goes on as long as `nat` has base chains.
 */
import { wire } from '../../maps/layout.ts';
import type { DatapathState, Tally } from '../driver.ts';

export type Family = 4 | 6;
export const FAMILIES: readonly Family[] = [4, 6];
export type Table = 'mangle' | 'raw' | 'nat';
export type Hook = 'prerouting' | 'output' | 'postrouting';
/** ours, each jumped to from a hook's base chain */
export type Chain = Hook | 'count';

export interface Match {
  in?: string;
  out?: { name: string; not: boolean };
  protocol?: 'tcp' | 'udp';
  source?: string;
  destination?: { address: string; not: boolean };
  sport?: number;
  dport?: { port: number; not: boolean };
  mark?: { value: number; not: boolean };
  connmark?: number;
  /** of the node: a local socket sent it to a member of this set */
  localTo?: string;
}

export type Action =
  | { do: 'accept' | 'return' | 'count' | 'save-mark' | 'restore-mark' }
  | { do: 'redirect'; port: number }
  | { do: 'zone'; zone: number }
  | { do: 'snat'; address: string };

export interface Rule {
  /** short and unique in its family; names it in messages, and in nftables' comments */
  id: string;
  table: Table;
  chain: Chain;
  /** undefined: the same for both */
  family?: Family;
  match: Match;
  action: Action;
  /** what its counter counts; undefined: nothing that has a name */
  counts?: Pick<Tally, 'direction' | 'verdict' | 'reason'>;
}

/** What of a pod decides its rules. */
export interface Shape {
  dns: boolean;
  ingressMode: boolean;
  virtualInterfaces: readonly string[];
}

export type Stage = Exclude<DatapathState, 'none'>;

export interface Jump {
  table: Table;
  from: Hook;
  to: Chain;
}

export const PROBE_ADDRESS: Readonly<Record<Family, string>> = { 4: '169.254.7.127', 6: 'fd16:9254:7127:1337:ffff:ffff:ffff:ffff' };
export const PROBE_SET: Readonly<Record<Family, string>> = { 4: 'culvert-probes-v4', 6: 'culvert-probes-v6' };
const LOOPBACK: Readonly<Record<Family, string>> = { 4: '127.0.0.1', 6: '::1' };
const DNS_ZONE = 1;

const tunnel = { mark: { value: wire.MARK_TUNNEL, not: false } } as const;
const notTunnel = { mark: { value: wire.MARK_TUNNEL, not: true } } as const;

/** Rules in their order, of every stage; both families' where they differ. */
export function podRules(shape: Shape): Rule[] {
  return [...mangleRules(), ...(shape.dns ? rawRules() : []), COUNT, ...captureIn(shape), ...captureOut(shape)];
}

/** Not Istio's: counts new connections to 15008, which nothing redirects; a pod that leaves waits until it stands still. */
const COUNT: Rule = {
  id: 'hbone',
  table: 'nat',
  chain: 'count',
  match: { protocol: 'tcp', dport: { port: wire.PORT_HBONE, not: false } },
  action: { do: 'count' },
  counts: { direction: 'inbound', verdict: 'redirected', reason: 'hbone' },
};

function mangleRules(): Rule[] {
  return [
    { id: 'save-mark', table: 'mangle', chain: 'prerouting', match: tunnel, action: { do: 'save-mark' } },
    { id: 'restore-mark', table: 'mangle', chain: 'output', match: { connmark: wire.MARK_LOCAL }, action: { do: 'restore-mark' } },
  ];
}

/** The tunnel's own questions in a zone of their own: the application's redirected ones may use the same ports (istio#33469). */
function rawRules(): Rule[] {
  const zone = { do: 'zone', zone: DNS_ZONE } as const;
  return [
    {
      id: 'dns-zone-out',
      table: 'raw',
      chain: 'output',
      match: { protocol: 'udp', ...tunnel, dport: { port: 53, not: false } },
      action: zone,
    },
    { id: 'dns-zone-in', table: 'raw', chain: 'prerouting', match: { protocol: 'udp', ...notTunnel, sport: 53 }, action: zone },
  ];
}

function captureIn({ ingressMode, virtualInterfaces }: Shape): Rule[] {
  const rule = (rest: Omit<Rule, 'table' | 'chain'>): Rule => ({ table: 'nat', chain: 'prerouting', ...rest });
  const rules = virtualInterfaces.flatMap((name, i) => [
    rule({
      id: `virtual-${i}`,
      match: { in: name, protocol: 'tcp' },
      action: { do: 'redirect', port: wire.PORT_OUTBOUND },
      counts: { direction: 'outbound', verdict: 'redirected', reason: 'tunnel' },
    }),
    rule({ id: `virtual-${i}-end`, match: { in: name, protocol: 'tcp' }, action: { do: 'return' } }),
  ]);
  if (ingressMode) return rules;
  rules.push(
    ...FAMILIES.map((family) =>
      rule({
        id: `probe-in-v${family}`,
        family,
        match: { source: PROBE_ADDRESS[family], protocol: 'tcp' },
        action: { do: 'accept' },
        counts: { direction: 'inbound', verdict: 'passed', reason: 'exempt' },
      }),
    ),
    ...FAMILIES.map((family) =>
      rule({
        id: `inbound-v${family}`,
        family,
        match: { ...beyond(family), protocol: 'tcp', dport: { port: wire.PORT_HBONE, not: true }, ...notTunnel },
        action: { do: 'redirect', port: wire.PORT_INBOUND },
        counts: { direction: 'inbound', verdict: 'redirected', reason: 'tunnel' },
      }),
    ),
  );
  return rules;
}

function captureOut({ dns }: Shape): Rule[] {
  const rule = (rest: Omit<Rule, 'table' | 'chain'>): Rule => ({ table: 'nat', chain: 'output', ...rest });
  const outbound = (verdict: 'redirected' | 'passed', reason: string): NonNullable<Rule['counts']> => ({
    direction: 'outbound',
    verdict,
    reason,
  });
  const toDns = { do: 'redirect', port: wire.PORT_DNS } as const;
  const each = (make: (family: Family) => Omit<Rule, 'table' | 'chain' | 'family'>): Rule[] =>
    FAMILIES.map((family) => rule({ family, ...make(family) }));
  return [
    ...each((family) => ({
      id: `probe-out-v${family}`,
      match: { destination: { address: PROBE_ADDRESS[family], not: false }, protocol: 'tcp' },
      action: { do: 'accept' },
      counts: outbound('passed', 'probe'),
    })),
    ...(dns
      ? [
          rule({
            id: 'dns-udp',
            match: { out: { name: 'lo', not: true }, protocol: 'udp', ...notTunnel, dport: { port: 53, not: false } },
            action: toDns,
            counts: outbound('redirected', 'dns-udp'),
          }),
          ...each((family) => ({
            id: `dns-tcp-v${family}`,
            match: { ...beyond(family), protocol: 'tcp', dport: { port: 53, not: false }, ...notTunnel },
            action: toDns,
            counts: outbound('redirected', 'dns-tcp'),
          })),
        ]
      : []),
    rule({ id: 'answers', match: { protocol: 'tcp', mark: { value: wire.MARK_LOCAL, not: false } }, action: { do: 'accept' } }),
    ...each((family) => ({
      id: `own-v${family}`,
      match: { ...beyond(family), out: { name: 'lo', not: false } },
      action: { do: 'accept' },
      counts: outbound('passed', 'own'),
    })),
    ...each((family) => ({
      id: `outbound-v${family}`,
      match: { ...beyond(family), protocol: 'tcp', ...notTunnel },
      action: { do: 'redirect', port: wire.PORT_OUTBOUND },
      counts: outbound('redirected', 'tunnel'),
    })),
  ];
}

function beyond(family: Family): Pick<Match, 'destination'> {
  return { destination: { address: LOOPBACK[family], not: true } };
}

/** @returns what of the rules the kernel has at this stage */
export function rulesAt(shape: Shape, stage: Stage): Rule[] {
  const rules = podRules(shape);
  return stage === 'prepared' ? rules.filter((rule) => !captures(rule)) : rules;
}

export function captures({ table, chain }: Pick<Rule, 'table' | 'chain'>): boolean {
  return table === 'nat' && chain !== 'count';
}

/** In the order in which they come into a base chain. */
export function jumpsAt(shape: Shape, stage: Stage): Jump[] {
  const jumps: Jump[] = [
    { table: 'mangle', from: 'prerouting', to: 'prerouting' },
    { table: 'mangle', from: 'output', to: 'output' },
  ];
  if (shape.dns) jumps.push({ table: 'raw', from: 'prerouting', to: 'prerouting' }, { table: 'raw', from: 'output', to: 'output' });
  jumps.push({ table: 'nat', from: 'prerouting', to: 'count' });
  if (stage === 'active')
    jumps.push({ table: 'nat', from: 'prerouting', to: 'prerouting' }, { table: 'nat', from: 'output', to: 'output' });
  return jumps;
}

/** Chains of ours that exist at this stage, those without rules included. */
export function chainsAt(shape: Shape, stage: Stage): { table: Table; chain: Chain }[] {
  return jumpsAt(shape, stage === 'draining' ? 'active' : stage).map(({ table, to }) => ({ table, chain: to }));
}

/** On the node: what its own processes send to a pod of ours comes from an address that no policy applies to. */
export function nodeRules(): Rule[] {
  return FAMILIES.map((family) => ({
    id: `probes-v${family}`,
    table: 'nat',
    chain: 'postrouting',
    family,
    match: { protocol: 'tcp', localTo: PROBE_SET[family] },
    action: { do: 'snat', address: PROBE_ADDRESS[family] },
  }));
}

/**
 * The stage that what was found means. What somebody emptied counts as not captured.
 * @param has of a chain of ours: whether it is there with rules, and whether it is jumped to
 */
export function stageOf(has: (table: Table, chain: Chain) => { filled: boolean; jumped: boolean }): DatapathState {
  const out = has('nat', 'output');
  if (out.filled && out.jumped) return 'active';
  if (out.filled) return 'draining';
  return has('mangle', 'prerouting').filled ? 'prepared' : 'none';
}

const INTERFACE = /^[A-Za-z0-9._@-]{1,15}$/;

/** Names that a device can have and that mean the same to iptables and nftables (no wildcard). */
export function isInterface(name: string): boolean {
  return INTERFACE.test(name) && name !== '.' && name !== '..';
}
