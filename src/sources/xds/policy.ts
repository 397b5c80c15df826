/**
 * An Authorization of the control plane, checked whole. Stricter than ztunnel, which leaves out of a list what it cannot read: a list
 * that has become empty matches everything, and that nobody meant.
 */
import {
  Action,
  Scope,
  type Address,
  type Authorization,
  type Match,
  type ServiceAccountMatch,
  type StringMatch,
} from '../../proto/security_pb.js';
import type { Policy } from '../../state/workload.ts';
import type { Faults } from './faults.ts';
import { checkEnum, readIp, readPrefixLength } from './fields.ts';

/** @param name of the resource: workloads refer to it by this one @returns undefined when there are faults */
export function readPolicy(name: string, authorization: Authorization, faults: Faults): Policy | undefined {
  checkEnum(faults, 'scope', Scope, authorization.scope);
  checkEnum(faults, 'action', Action, authorization.action);
  for (const [r, rule] of authorization.rules.entries()) {
    for (const [c, clause] of rule.clauses.entries()) {
      for (const [m, match] of clause.matches.entries()) checkMatch(`rules[${r}].clauses[${c}].matches[${m}]`, match, faults);
    }
  }
  return faults.none ? { key: name, authorization } : undefined;
}

function checkMatch(at: string, match: Match, faults: Faults): void {
  checkTexts(`${at}.namespaces`, match.namespaces, faults);
  checkTexts(`${at}.not_namespaces`, match.notNamespaces, faults);
  checkTexts(`${at}.principals`, match.principals, faults);
  checkTexts(`${at}.not_principals`, match.notPrincipals, faults);
  checkPrefixes(`${at}.source_ips`, match.sourceIps, faults);
  checkPrefixes(`${at}.not_source_ips`, match.notSourceIps, faults);
  checkPrefixes(`${at}.destination_ips`, match.destinationIps, faults);
  checkPrefixes(`${at}.not_destination_ips`, match.notDestinationIps, faults);
  checkPorts(`${at}.destination_ports`, match.destinationPorts, faults);
  checkPorts(`${at}.not_destination_ports`, match.notDestinationPorts, faults);
  checkAccounts(`${at}.service_accounts`, match.serviceAccounts, faults);
  checkAccounts(`${at}.not_service_accounts`, match.notServiceAccounts, faults);
}

function checkTexts(field: string, texts: readonly StringMatch[], faults: Faults): void {
  for (const [index, { matchType }] of texts.entries()) {
    if (matchType.case === undefined) faults.add(`${field}[${index}]`, undefined, 'neither exact, prefix, suffix nor presence');
  }
}

function checkPrefixes(field: string, prefixes: readonly Address[], faults: Faults): void {
  for (const [index, { address, length }] of prefixes.entries()) {
    const ip = readIp(faults, `${field}[${index}].address`, address);
    if (ip !== undefined) readPrefixLength(faults, `${field}[${index}].length`, address, length);
  }
}

function checkPorts(field: string, ports: readonly number[], faults: Faults): void {
  for (const [index, port] of ports.entries()) if (port > 65535) faults.add(`${field}[${index}]`, port, 'must be 0 to 65535');
}

function checkAccounts(field: string, accounts: readonly ServiceAccountMatch[], faults: Faults): void {
  for (const [index, account] of accounts.entries()) {
    if (account.serviceAccount === '') faults.add(`${field}[${index}].serviceAccount`, '', 'must not be empty');
  }
}
