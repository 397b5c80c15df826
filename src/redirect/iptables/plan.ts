/**
 * From what a netns has to what it should have, as one input of iptables-restore --noflush. A table is one commit of the kernel's; they
 * come in the order in which nothing is captured before its answers find their way, and the guard's is first and last. Pure.
 */
import {
  chainsAt,
  jumpsAt,
  rulesAt,
  stageOf,
  type Chain,
  type Family,
  type Rule,
  type Shape,
  type Stage,
  type Table,
} from '../netfilter/rules.ts';
import type { DatapathState } from '../driver.ts';
import { BASE, CHAIN, GUARD, jumpOf, specOf } from './render.ts';
import { canonical, hasGuard, isOurs, targetOf, type Saved } from './saved.ts';

const TABLES: readonly Table[] = ['mangle', 'raw', 'nat'];
const BASES: ReadonlySet<string> = new Set(Object.values(BASE));

/** What one family should have: chains with their specs, jumps as "PREROUTING -j CULVERT_PRERT". */
export type Wanted = Map<string, { chains: Map<string, { id: string; spec: string }[]>; jumps: string[] }>;

export function wantedOf(shape: Shape, stage: Stage, family: Family): Wanted {
  const wanted: Wanted = new Map();
  const at = (table: string): NonNullable<ReturnType<Wanted['get']>> => {
    const known = wanted.get(table) ?? { chains: new Map(), jumps: [] };
    wanted.set(table, known);
    return known;
  };
  for (const { table, chain } of chainsAt(shape, stage)) at(table).chains.set(CHAIN[chain], []);
  for (const rule of ofFamily(rulesAt(shape, stage), family))
    at(rule.table)
      .chains.get(CHAIN[rule.chain])
      ?.push({ id: rule.id, spec: specOf(rule, family) });
  for (const jump of jumpsAt(shape, stage)) at(jump.table).jumps.push(jumpOf(jump));
  return wanted;
}

export function ofFamily(rules: readonly Rule[], family: Family): Rule[] {
  return rules.filter((rule) => rule.family === undefined || rule.family === family);
}

/** What of it is not so, one sentence each. */
export function differences(saved: Saved, wanted: Wanted, family: Family): string[] {
  const said: string[] = [];
  const say = (what: string): void => void said.push(`IPv${family} ${what}`);
  for (const [table, { chains, jumps }] of wanted) {
    const found = saved.get(table)?.chains ?? new Map<string, never[]>();
    for (const [chain, rules] of chains) compareChain(`${table} ${chain}`, found.get(chain), rules, say);
    const there = jumpsOf(saved, table);
    for (const jump of jumps) if (!there.includes(jump)) say(`${table}: the jump ${jump} is missing`);
  }
  for (const [table, { chains }] of saved) {
    const known = wanted.get(table);
    for (const chain of chains.keys())
      if (isOurs(chain) && known?.chains.has(chain) !== true) say(`${table}: chain ${chain} is one too many`);
    const left = [...(known?.jumps ?? [])];
    for (const jump of jumpsOf(saved, table)) {
      const at = left.indexOf(jump);
      if (at >= 0) left.splice(at, 1);
      else if (known?.jumps.includes(jump) === true || isOurs(targetOf(jump) ?? '')) say(`${table}: the jump ${jump} is one too many`);
    }
  }
  return [...new Set(said)];
}

function compareChain(
  name: string,
  found: readonly { spec: string }[] | undefined,
  wanted: readonly { id: string; spec: string }[],
  say: (what: string) => void,
): void {
  if (found === undefined) {
    say(`${name}: the chain is missing`);
    return;
  }
  const there = found.map(({ spec }) => canonical(spec));
  const should = wanted.map(({ spec }) => canonical(spec));
  const missing = wanted.filter((_, i) => !there.includes(should[i] ?? ''));
  const extra = found.filter((_, i) => !should.includes(there[i] ?? ''));
  for (const { id, spec } of missing) say(`${name}: rule ${id} is missing or changed (${spec})`);
  for (const { spec } of extra) say(`${name}: a rule is not ours (${spec})`);
  if (missing.length + extra.length > 0) return;
  if (there.length !== should.length) say(`${name}: a rule is there twice`);
  else if (there.some((spec, i) => spec !== should[i])) say(`${name}: the rules are in another order`);
}

/** Jumps from base chains into ours, as they stand. */
function jumpsOf(saved: Saved, table: string): string[] {
  return [...(saved.get(table)?.chains ?? [])].flatMap(([chain, rules]) =>
    isOurs(chain) ? [] : rules.filter(({ spec }) => targetOf(spec) !== undefined).map(({ spec }) => `${chain} ${spec}`),
  );
}

/**
 * @param first where a jump comes in its base chain: "-A", or "-I" for position 1
 * @param guarded new connections are dropped from the first commit to the last
 * @returns input of iptables-restore; '' when all is as wanted
 */
export function planOf(
  saved: Saved,
  wanted: Wanted,
  { guarded = false, place = '-A' }: { guarded?: boolean; place?: '-A' | '-I' } = {},
): string {
  const blocks: string[] = [];
  for (const table of tablesOf(saved, wanted)) {
    const lines = planTable(saved, wanted, table, place);
    if (lines.length > 0) blocks.push(block(table, lines));
  }
  const stale = hasGuard(saved);
  if (blocks.length === 0) return stale ? block('filter', guardOff(saved)) : '';
  if (!guarded) return [...blocks, ...(stale ? [block('filter', guardOff(saved))] : [])].join('');
  return [block('filter', guardOn(saved)), ...blocks, block('filter', guardOff(undefined))].join('');
}

function tablesOf(saved: Saved, wanted: Wanted): string[] {
  const ours = [...saved].filter(
    ([table, { chains }]) => table !== 'filter' && ([...chains.keys()].some(isOurs) || jumpsOf(saved, table).length > 0),
  );
  const all = new Set([...wanted.keys(), ...ours.map(([table]) => table)]);
  return [...TABLES.filter((table) => all.has(table)), ...[...all].filter((table) => !(TABLES as readonly string[]).includes(table))];
}

function planTable(saved: Saved, wanted: Wanted, table: string, place: '-A' | '-I'): string[] {
  const found = saved.get(table)?.chains ?? new Map<string, never[]>();
  const { chains, jumps } = wanted.get(table) ?? { chains: new Map<string, never[]>(), jumps: [] };
  const create: string[] = [];
  const change: string[] = [];
  const there = jumpsOf(saved, table);
  const keep = jumps.filter((jump, i) => there.includes(jump) && jumps.indexOf(jump) === i);
  // In the wanted order, or all anew.
  const asWanted = place === '-I' || there.filter((jump) => jumps.includes(jump)).join() === keep.join();
  for (const jump of there) if (!asWanted || !keep.includes(jump)) change.push(`-D ${jump}`);
  for (const [chain, rules] of chains) {
    const now = found.get(chain);
    const same = now?.length === rules.length && rules.every(({ spec }, i) => canonical(spec) === canonical(now[i]?.spec ?? ''));
    if (same) continue;
    create.push(`:${chain} - [0:0]`); // made, or emptied
    for (const { spec } of rules) change.push(`-A ${chain} ${spec}`);
  }
  for (const jump of jumps) if (!asWanted || !keep.includes(jump)) change.push(`${place} ${jump}`);
  const surplus = [...found.keys()].filter((chain) => isOurs(chain) && !chains.has(chain));
  for (const chain of surplus) change.push(`-F ${chain}`);
  for (const chain of surplus) change.push(`-X ${chain}`);
  return [...create, ...change];
}

/** What turns one stage as we left it into the next, without looking. */
export function stepOf(shape: Shape, from: DatapathState, to: Stage, family: Family): string | undefined {
  const nat = wantedOf(shape, 'active', family).get('nat');
  const capture = jumpsAt(shape, 'active').filter((jump) => jump.table === 'nat' && jump.to !== 'count');
  const lines: string[] = [];
  if (to === 'active' && from === 'prepared') {
    for (const { to: chain } of capture) lines.push(`:${CHAIN[chain]} - [0:0]`);
    for (const { to: chain } of capture)
      for (const { spec } of nat?.chains.get(CHAIN[chain]) ?? []) lines.push(`-A ${CHAIN[chain]} ${spec}`);
    lines.push(...capture.map((jump) => `-A ${jumpOf(jump)}`));
  } else if (to === 'active' && from === 'draining') lines.push(...capture.map((jump) => `-A ${jumpOf(jump)}`));
  else if (to === 'draining' && from === 'active') lines.push(...capture.map((jump) => `-D ${jumpOf(jump)}`));
  else return undefined;
  return block('nat', lines);
}

/** Drops what would begin a connection past the rules; a client's SYN or question comes again a moment later. */
function guardOn(saved: Saved): string[] {
  const fresh = '-m conntrack --ctstate NEW -j DROP';
  const lines = hasGuard(saved) ? guardOff(saved) : [];
  return [
    `:${GUARD} - [0:0]`,
    ...lines.filter((line) => line.startsWith('-D')),
    `-A ${GUARD} -p tcp ${fresh}`,
    `-A ${GUARD} -p udp -m udp --dport 53 ${fresh}`,
    `-I OUTPUT ! -o lo -j ${GUARD}`,
    `-I INPUT ! -i lo -j ${GUARD}`,
  ];
}

/** @param saved undefined: as guardOn just left it */
function guardOff(saved: Saved | undefined): string[] {
  const jumps = saved === undefined ? [`INPUT ! -i lo -j ${GUARD}`, `OUTPUT ! -o lo -j ${GUARD}`] : jumpsOf(saved, 'filter');
  return [...jumps.map((jump) => `-D ${jump}`), `-F ${GUARD}`, `-X ${GUARD}`];
}

function block(table: string, lines: readonly string[]): string {
  return `*${table}\n${lines.join('\n')}\nCOMMIT\n`;
}

/** The stage of one family. */
export function stageIn(saved: Saved): DatapathState {
  return stageOf((table: Table, chain: Chain) => ({
    filled: (saved.get(table)?.chains.get(CHAIN[chain])?.length ?? 0) > 0,
    jumped: jumpsOf(saved, table).some((jump) => targetOf(jump) === CHAIN[chain]),
  }));
}

function isBase(chain: string): boolean {
  return BASES.has(chain) || chain === 'INPUT' || chain === 'FORWARD';
}

/** Tables in which nothing but ours is. */
export function onlyOurs(saved: Saved): string[] {
  return [...saved]
    .filter(
      ([, { chains, guarded }]) =>
        !guarded &&
        [...chains].every(([chain, rules]) => isOurs(chain) || (isBase(chain) && rules.every(({ spec }) => targetOf(spec) !== undefined))),
    )
    .map(([table]) => table);
}

/** For golden tests and for people: all of one family at a stage. */
export function rendered(shape: Shape, stage: Stage, family: Family): string {
  return planOf(new Map(), wantedOf(shape, stage, family));
}
