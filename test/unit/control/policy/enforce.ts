/** What a tunnel makes of the policies, written down as a judge for tests: every list of a match must match, of a list one entry. */
import { isIPv4 } from 'node:net';
import { Action, Scope, type Authorization, type Match, type StringMatch } from '../../../../src/proto/security_pb.js';
import { parseAddress } from '../../../../src/maps/address.ts';

export interface Connection {
  /** undefined: plain text */
  peer?: { trustDomain: string; namespace: string; account: string };
  source: string;
  destination: string;
  port: number;
}

export interface Workload {
  namespace: string;
  /** names of the policies that it refers to */
  policies: readonly string[];
}

export function permits(served: Iterable<Authorization>, workload: Workload, connection: Connection): boolean {
  const mine = [...served].filter((each) => !each.dryRun && concerns(each, workload));
  const matched = (action: Action): Authorization[] => mine.filter((each) => each.action === action && matches(each, connection));
  if (matched(Action.DENY).length > 0) return false;
  return mine.every(({ action }) => action !== Action.ALLOW) || matched(Action.ALLOW).length > 0;
}

function concerns({ scope, namespace, name }: Authorization, workload: Workload): boolean {
  if (scope === Scope.GLOBAL) return true;
  if (scope === Scope.NAMESPACE) return namespace === workload.namespace;
  return workload.policies.includes(`${namespace}/${name}`);
}

function matches({ rules }: Authorization, connection: Connection): boolean {
  return rules.some(({ clauses }) =>
    clauses.every((clause) => clause.matches.length === 0 || clause.matches.some((match) => matchHolds(match, connection))),
  );
}

function matchHolds(match: Match, { peer, source, destination, port }: Connection): boolean {
  const lists = Object.values(match).filter((list) => Array.isArray(list));
  if (lists.every((list) => list.length === 0)) return false; // a tunnel skips it
  const principal = peer === undefined ? '' : `${peer.trustDomain}/ns/${peer.namespace}/sa/${peer.account}`;
  const both = <T>(wanted: readonly T[], unwanted: readonly T[], holds: (each: T) => boolean): boolean =>
    (wanted.length === 0 || wanted.some(holds)) && !unwanted.some(holds);
  const within =
    (ip: string) =>
    ({ address, length }: { address: Uint8Array; length: number }): boolean =>
      inPrefix(ip, address, length);
  return (
    both(match.principals, match.notPrincipals, (each) => textMatches(each, principal)) &&
    both(match.namespaces, match.notNamespaces, (each) => textMatches(each, peer?.namespace ?? '')) &&
    both(
      match.serviceAccounts,
      match.notServiceAccounts,
      (each) => each.namespace === peer?.namespace && each.serviceAccount === peer.account,
    ) &&
    both(match.sourceIps, match.notSourceIps, within(source)) &&
    both(match.destinationIps, match.notDestinationIps, within(destination)) &&
    both(match.destinationPorts, match.notDestinationPorts, (each) => each === port)
  );
}

function textMatches({ matchType }: StringMatch, text: string): boolean {
  switch (matchType.case) {
    case 'exact':
      return text === matchType.value;
    case 'prefix':
      return text.startsWith(matchType.value);
    case 'suffix':
      return text.endsWith(matchType.value);
    case 'presence':
      return text !== '';
    case undefined:
      return false;
  }
}

function inPrefix(ip: string, address: Uint8Array, length: number): boolean {
  const bytes = isIPv4(ip) ? parseAddress(ip).subarray(12) : parseAddress(ip);
  if (bytes.length !== address.length) return false;
  const bits = (of: Uint8Array): string => [...of].map((byte) => byte.toString(2).padStart(8, '0')).join('');
  return bits(bytes).slice(0, length) === bits(address).slice(0, length);
}
