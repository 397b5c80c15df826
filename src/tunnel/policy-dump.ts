/** A policy as ztunnel's config dump spells it, for `istioctl ztunnel-config policies`. */
import { formatAddress } from '../maps/address.ts';
import { Action, Scope, type Address, type Match, type StringMatch } from '../proto/security_pb.js';
import type { Policy } from '../state/workload.ts';

export function dumpPolicy({ authorization }: Policy): unknown {
  return {
    name: authorization.name,
    namespace: authorization.namespace,
    scope: scopeNames[authorization.scope],
    action: authorization.action === Action.DENY ? 'Deny' : 'Allow',
    rules: authorization.rules.map(({ clauses }) => clauses.map(({ matches }) => matches.map(matchOf))),
    dryRun: authorization.dryRun,
  };
}

const scopeNames: Record<Scope, string> = {
  [Scope.GLOBAL]: 'Global',
  [Scope.NAMESPACE]: 'Namespace',
  [Scope.WORKLOAD_SELECTOR]: 'WorkloadSelector',
};

/** Lists that are empty are left out. */
function matchOf(match: Match): unknown {
  const accounts = (list: Match['serviceAccounts']): unknown[] =>
    list.map(({ namespace, serviceAccount }) => ({ namespace, serviceAccount }));
  const all = {
    namespaces: match.namespaces.map(textOf),
    notNamespaces: match.notNamespaces.map(textOf),
    serviceAccounts: accounts(match.serviceAccounts),
    notServiceAccounts: accounts(match.notServiceAccounts),
    principals: match.principals.map(textOf),
    notPrincipals: match.notPrincipals.map(textOf),
    sourceIps: match.sourceIps.map(prefixOf),
    notSourceIps: match.notSourceIps.map(prefixOf),
    destinationIps: match.destinationIps.map(prefixOf),
    notDestinationIps: match.notDestinationIps.map(prefixOf),
    destinationPorts: match.destinationPorts,
    notDestinationPorts: match.notDestinationPorts,
  };
  return Object.fromEntries(Object.entries(all).filter(([, list]) => list.length > 0));
}

function textOf({ matchType }: StringMatch): unknown {
  switch (matchType.case) {
    case 'exact':
      return { Exact: matchType.value };
    case 'prefix':
      return { Prefix: matchType.value };
    case 'suffix':
      return { Suffix: matchType.value };
    default:
      return { Presence: [] };
  }
}

/** "10.0.0.0/8" */
function prefixOf({ address, length }: Address): string {
  return `${address.length === 16 ? formatAddress(address) : address.join('.')}/${length}`;
}
