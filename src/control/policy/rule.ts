/**
 * One rule of an AuthorizationPolicy, taken apart for L4: clauses that must all match (to, from, each when), each of entries of which
 * one must. What L4 does not see (HTTP, trust domains as such) is left out of its entry and named; an entry with nothing left is
 * sent empty, as Istio does, and matches nothing.
 */
import { create } from '@bufbuild/protobuf';
import { ClauseSchema, MatchSchema, type Clause, type Match } from '../../proto/security_pb.js';
import { under, type Reading, type Values } from './reading.ts';
import { ADDRESSES, NAMES, PORTS, principals, serviceAccounts, TEXTS } from './values.ts';

/** Puts the values of a field into a match. @returns how many */
type Fill = (match: Match, reading: Reading, value: unknown, path: string) => number;

export interface RuleReading {
  clauses: readonly Clause[];
  /** nothing in it was unreadable; clauses with a fault are left out */
  clean: boolean;
  /** paths of what L4 does not see */
  unsupported: readonly string[];
  /** a clause has only empty entries: the rule matches no connection */
  inert: boolean;
}

/** Fields that are undefined exist, but L4 does not see what they are about. */
export interface RuleFields {
  source: ReadonlyMap<string, Fill | undefined>;
  operation: ReadonlyMap<string, Fill | undefined>;
  when: ReadonlyMap<string, readonly [values: Fill, notValues: Fill]>;
}

export function readRule(reading: Reading, value: unknown, { path, fields }: { path: string; fields: RuleFields }): RuleReading {
  const unsupported: string[] = [];
  const clauses: Clause[] = [];
  const keep = (clause: () => Clause | undefined): void => {
    const { value: read, clean } = reading.clean(clause);
    if (clean && read !== undefined) clauses.push(read);
  };
  const { clean } = reading.clean(() => {
    const rule = reading.object(value, path, ['from', 'to', 'when']);
    if (rule === undefined) return;
    const { source, operation, when } = fields;
    keep(() => entries(reading, rule['to'], { path: under(path, 'to'), inner: 'operation', fields: operation, unsupported }));
    keep(() => entries(reading, rule['from'], { path: under(path, 'from'), inner: 'source', fields: source, unsupported }));
    for (const [index, condition] of reading.list(rule['when'], under(path, 'when')).entries())
      keep(() => conditionClause(reading, condition, { path: `${path}.when[${index}]`, fields: when, unsupported }));
  });
  return { clauses, clean, unsupported, inert: clauses.some(({ matches }) => matches.every(isEmpty)) };
}

interface EntryFields {
  path: string;
  /** the one field of an entry */
  inner: string;
  fields: ReadonlyMap<string, Fill | undefined>;
  unsupported: string[];
}

/** `from` or `to`. @returns undefined when it is not there */
function entries(reading: Reading, value: unknown, { path, inner, fields, unsupported }: EntryFields): Clause | undefined {
  if (value === undefined) return undefined;
  const list = reading.list(value, path);
  // Taken as absent it would match everything, which hardly anybody means by an empty list, or by "from:" with nothing behind it.
  if (list.length === 0) reading.fault(path, 'must not be empty', value);
  const matches = list.map((entry, index) => {
    const at = `${path}[${index}]`;
    const outer = reading.object(entry, at, [inner]);
    return outer === undefined ? create(MatchSchema) : entryMatch(reading, outer[inner], { path: under(at, inner), fields, unsupported });
  });
  return create(ClauseSchema, { matches });
}

function entryMatch(reading: Reading, value: unknown, { path, fields, unsupported }: Omit<EntryFields, 'inner'>): Match {
  const match = create(MatchSchema);
  const { value: count, clean } = reading.clean(() => {
    let values = 0;
    for (const [name, list] of Object.entries(reading.object(value, path, [...fields.keys()]) ?? {})) {
      if (!fields.has(name)) continue;
      const fill = fields.get(name);
      const read = fill === undefined ? unseenValues(reading, list, under(path, name)) : fill(match, reading, list, under(path, name));
      if (read > 0 && fill === undefined) unsupported.push(under(path, name));
      values += read;
    }
    return values;
  });
  if (clean && count === 0) reading.fault(path, 'must not be empty', value);
  return match;
}

function unseenValues(reading: Reading, value: unknown, path: string): number {
  return reading.values(value, path, TEXTS).length;
}

interface ConditionFields {
  path: string;
  fields: RuleFields['when'];
  unsupported: string[];
}

/** Keys that Envoy knows and L4 does not. */
const HTTP_KEYS = [
  /^request\.headers\[.+\]$/,
  /^request\.auth\.(principal|audiences|presenter|claims\[.+\])$/,
  /^remote\.ip$/,
  /^source\.trustDomain$/,
  /^connection\.sni$/,
  /^experimental\.envoy\.filters\..+\[.+\]$/,
];

function conditionClause(reading: Reading, value: unknown, { path, fields, unsupported }: ConditionFields): Clause | undefined {
  const condition = reading.object(value, path, ['key', 'values', 'notValues']);
  if (condition === undefined) return undefined;
  const { key, values, notValues } = condition;
  const fills = typeof key === 'string' ? fields.get(key) : undefined;
  const match = create(MatchSchema);
  const { value: count, clean } = reading.clean(() => {
    const [at, notAt] = [under(path, 'values'), under(path, 'notValues')];
    if (fills !== undefined) return fills[0](match, reading, values, at) + fills[1](match, reading, notValues, notAt);
    if (typeof key === 'string' && HTTP_KEYS.some((known) => known.test(key))) unsupported.push(`${path} (${key})`);
    else reading.fault(under(path, 'key'), 'is no known attribute', key ?? null);
    return unseenValues(reading, values, at) + unseenValues(reading, notValues, notAt);
  });
  if (clean && count === 0) reading.fault(path, 'must have values or notValues', value);
  return create(ClauseSchema, { matches: [match] });
}

/** For the policies of a namespace: an account that is named alone is of that one. */
export function ruleFields({ namespace, trustDomain }: { namespace: string; trustDomain: string }): RuleFields {
  const names = principals(trustDomain);
  const accounts = serviceAccounts(namespace);
  return {
    source: new Map([
      ['principals', into(names, (match) => match.principals)],
      ['notPrincipals', into(names, (match) => match.notPrincipals)],
      ['namespaces', into(NAMES, (match) => match.namespaces)],
      ['notNamespaces', into(NAMES, (match) => match.notNamespaces)],
      ['serviceAccounts', into(accounts, (match) => match.serviceAccounts)],
      ['notServiceAccounts', into(accounts, (match) => match.notServiceAccounts)],
      ['ipBlocks', into(ADDRESSES, (match) => match.sourceIps)],
      ['notIpBlocks', into(ADDRESSES, (match) => match.notSourceIps)],
      ...unseen('requestPrincipals', 'remoteIpBlocks', 'trustDomains'),
    ]),
    operation: new Map([
      ['ports', into(PORTS, (match) => match.destinationPorts)],
      ['notPorts', into(PORTS, (match) => match.notDestinationPorts)],
      ...unseen('hosts', 'methods', 'paths'),
    ]),
    when: new Map<string, readonly [Fill, Fill]>([
      ['source.ip', [into(ADDRESSES, (match) => match.sourceIps), into(ADDRESSES, (match) => match.notSourceIps)]],
      ['source.namespace', [into(NAMES, (match) => match.namespaces), into(NAMES, (match) => match.notNamespaces)]],
      ['source.principal', [into(names, (match) => match.principals), into(names, (match) => match.notPrincipals)]],
      ['source.serviceAccount', [into(accounts, (match) => match.serviceAccounts), into(accounts, (match) => match.notServiceAccounts)]],
      ['destination.ip', [into(ADDRESSES, (match) => match.destinationIps), into(ADDRESSES, (match) => match.notDestinationIps)]],
      ['destination.port', [into(PORTS, (match) => match.destinationPorts), into(PORTS, (match) => match.notDestinationPorts)]],
    ]),
  };
}

function unseen(...names: string[]): [string, undefined][] {
  return names.flatMap((name) => [
    [name, undefined],
    [`not${name.charAt(0).toUpperCase()}${name.slice(1)}`, undefined],
  ]);
}

function into<T>(values: Values<T>, list: (match: Match) => T[]): Fill {
  return (match, reading, value, path) => {
    const read = reading.values(value, path, values);
    for (const each of read) list(match).push(each); // not spread: a list may be longer than a call's arguments
    return read.length;
  };
}

function isEmpty(match: Match): boolean {
  return Object.values(match).every((list) => !Array.isArray(list) || list.length === 0);
}
