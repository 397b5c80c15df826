/** Rules as nft reads them: tables of family inet hold both families, and one input of `nft -f` is one transaction. Pure. */
import { wire } from '../../maps/layout.ts';
import {
  captures,
  chainsAt,
  jumpsAt,
  nodeRules,
  PROBE_SET,
  rulesAt,
  type Action,
  type Chain,
  type Family,
  type Hook,
  type Jump,
  type Match,
  type Rule,
  type Shape,
  type Stage,
  type Table,
} from '../netfilter/rules.ts';
import type { Member } from '../netfilter/backend.ts';

export const TABLES: readonly Table[] = ['mangle', 'raw', 'nat'];
const PREFIX = 'culvert-';

/** "culvert-nat" */
export function tableName(table: Table): string {
  return `${PREFIX}${table}`;
}

/** "culvert-output" */
export function chainName(chain: Chain): string {
  return `${PREFIX}${chain}`;
}

const PRIORITY: Readonly<Record<Table, number>> = { mangle: -150, raw: -300, nat: -100 };

/** "type nat hook output priority -100 ;" */
export function hookOf(table: Table, hook: Hook): { type: string; hook: Hook; priority: number } {
  const type = table === 'nat' ? 'nat' : table === 'mangle' && hook === 'output' ? 'route' : 'filter';
  return { type, hook, priority: hook === 'postrouting' ? 100 : PRIORITY[table] };
}

/** Base chains of a pod's tables; `nat` keeps both at every stage, because translation ends without them. */
const HOOKS: readonly Hook[] = ['prerouting', 'output'];

export function tablesOf(shape: Shape): Table[] {
  return TABLES.filter((table) => table !== 'raw' || shape.dns);
}

/** Everything of a pod at a stage, whatever was there before. @param surplus chains of our tables that are not ours, and tables not wanted */
export function whole(shape: Shape, stage: Stage, families: readonly Family[], surplus: readonly string[] = []): string {
  const lines: string[] = [];
  for (const table of tablesOf(shape)) {
    lines.push(`add table inet ${tableName(table)}`);
    for (const hook of HOOKS) lines.push(base(table, hook));
    for (const { chain } of chainsAt(shape, stage).filter((each) => each.table === table))
      lines.push(`add chain inet ${tableName(table)} ${chainName(chain)}`);
    lines.push(`flush table inet ${tableName(table)}`);
  }
  lines.push(...surplus);
  for (const rule of ofFamilies(rulesAt(shape, stage), families)) lines.push(ruleLine(rule));
  for (const jump of jumpsAt(shape, stage)) lines.push(jumpLine(jump));
  return text(lines);
}

/** From one stage as we left it to the next; counters go on counting. */
export function step(shape: Shape, from: string, to: Stage, families: readonly Family[]): string | undefined {
  const known = (to === 'active' && (from === 'prepared' || from === 'draining')) || (to === 'draining' && from === 'active');
  if (!known) return undefined;
  const lines: string[] = [];
  if (from === 'prepared') {
    for (const chain of HOOKS)
      lines.push(`add chain inet ${tableName('nat')} ${chainName(chain)}`, `flush chain inet ${tableName('nat')} ${chainName(chain)}`);
    for (const rule of ofFamilies(rulesAt(shape, to), families)) if (captures(rule)) lines.push(ruleLine(rule));
  }
  for (const hook of HOOKS) lines.push(`flush chain inet ${tableName('nat')} ${hook}`);
  for (const jump of jumpsAt(shape, to)) if (jump.table === 'nat') lines.push(jumpLine(jump));
  return text(lines);
}

/** Whether they are there or not. */
export function nothing(): string {
  return text(TABLES.flatMap((table) => [`add table inet ${tableName(table)}`, `delete table inet ${tableName(table)}`]));
}

export function node(members: readonly Member[]): string {
  const table = tableName('nat');
  const lines = [`add table inet ${table}`, base('nat', 'postrouting'), `add chain inet ${table} ${chainName('postrouting')}`];
  lines.push(`flush table inet ${table}`);
  for (const [family, type] of [[4, 'ipv4_addr'] as const, [6, 'ipv6_addr'] as const])
    lines.push(`add set inet ${table} ${PROBE_SET[family]} { type ${type} ; }`, `flush set inet ${table} ${PROBE_SET[family]}`);
  for (const rule of nodeRules()) lines.push(ruleLine(rule));
  lines.push(`add rule inet ${table} postrouting jump ${chainName('postrouting')}`);
  return text(lines) + elements(true, members);
}

/** To take one out that is not there would be an error: it is put in before. */
export function elements(add: boolean, members: readonly Member[]): string {
  const line = (verb: string, { address, uid }: Member, comment: boolean): string => {
    const set = PROBE_SET[address.includes(':') ? 6 : 4];
    return `${verb} element inet ${tableName('nat')} ${set} { ${address}${comment ? ` comment "${uid.replaceAll('"', '')}"` : ''} }`;
  };
  const lines = members.flatMap((each) => (add ? [line('add', each, true)] : [line('add', each, false), line('delete', each, false)]));
  return lines.length === 0 ? '' : text(lines);
}

export function ofFamilies(rules: readonly Rule[], families: readonly Family[]): Rule[] {
  return rules.filter(({ family }) => family === undefined || families.includes(family));
}

function base(table: Table, hook: Hook): string {
  const { type, priority } = hookOf(table, hook);
  return `add chain inet ${tableName(table)} ${hook} { type ${type} hook ${hook} priority ${priority} ; }`;
}

function jumpLine({ table, from, to }: Jump): string {
  return `add rule inet ${tableName(table)} ${from} jump ${chainName(to)}`;
}

function ruleLine(rule: Rule): string {
  const { table, chain, id, match, action } = rule;
  const words = [...matchOf(match), 'counter', ...actionOf(action), `comment "${id}"`];
  return `add rule inet ${tableName(table)} ${chainName(chain)} ${words.join(' ')}`;
}

function matchOf(m: Match): string[] {
  const sign = (not: boolean): string => (not ? '!= ' : '');
  const words: string[] = [];
  if (m.in !== undefined) words.push(`iifname "${m.in}"`);
  if (m.out !== undefined) words.push(`oifname ${sign(m.out.not)}"${m.out.name}"`);
  // a port says the protocol
  if (m.protocol !== undefined && m.sport === undefined && m.dport === undefined) words.push(`meta l4proto ${m.protocol}`);
  if (m.source !== undefined) words.push(`${ip(m.source)} saddr ${m.source}`);
  if (m.destination !== undefined) words.push(`${ip(m.destination.address)} daddr ${sign(m.destination.not)}${m.destination.address}`);
  // a packet without a socket here has no uid: the match fails, whatever it is compared with
  if (m.localTo !== undefined) words.push('meta skuid >= 0', `${m.localTo === PROBE_SET[4] ? 'ip' : 'ip6'} daddr @${m.localTo}`);
  if (m.sport !== undefined) words.push(`${m.protocol ?? 'tcp'} sport ${m.sport}`);
  if (m.dport !== undefined) words.push(`${m.protocol ?? 'tcp'} dport ${sign(m.dport.not)}${m.dport.port}`);
  if (m.mark !== undefined) words.push(`meta mark and ${MASK} ${m.mark.not ? '!=' : '=='} ${hex(m.mark.value)}`);
  if (m.connmark !== undefined) words.push(`ct mark and ${MASK} == ${hex(m.connmark)}`);
  return words;
}

function actionOf(action: Action): string[] {
  switch (action.do) {
    case 'accept':
    case 'return':
      return [action.do];
    case 'count':
      return [];
    case 'save-mark':
      return [`ct mark set ct mark and ${hex(~wire.MARK_MASK >>> 0)} or ${hex(wire.MARK_LOCAL)}`];
    case 'restore-mark':
      return ['meta mark set ct mark'];
    case 'redirect':
      return [`redirect to :${action.port}`];
    case 'zone':
      return [`ct zone set ${action.zone}`];
    case 'snat':
      return [`snat ${ip(action.address)} to ${action.address}`];
  }
}

const MASK = hex(wire.MARK_MASK);

function hex(value: number): string {
  return `0x${value.toString(16)}`;
}

function ip(address: string): 'ip' | 'ip6' {
  return address.includes(':') ? 'ip6' : 'ip';
}

function text(lines: readonly string[]): string {
  return `${lines.join('\n')}\n`;
}
