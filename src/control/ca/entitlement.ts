/**
 * Which identity a caller may have a certificate for. Its own always; another one only if it is a node's tunnel, and only while a pod
 * with that identity is on its node. So a node that is broken into gives away the identities of its own pods and no others.
 */
import { parseIdentity } from '../../identity/spiffe.ts';
import type { Caller } from '../authenticator.ts';
import type { Inventory } from './inventory.ts';

export interface EntitlementPolicy {
  trustDomain: string;
  /** "namespace/name" of the accounts that node tunnels run under */
  trustedNodeAccounts: ReadonlySet<string>;
}

export type Entitlement =
  | { verdict: 'granted'; identity: string }
  | {
      verdict: 'refused';
      code: 'PERMISSION_DENIED' | 'CERTIFICATE';
      reason: string;
      /** a state that is a little behind may be the cause: ask again when it has changed */
      later: boolean;
    }
  /** everything is in order but for the account, which the state does not know: ask the API */
  | { verdict: 'account unknown'; identity: string; namespace: string; serviceAccount: string };

/** @param requested the identity asked for in a workload's stead; empty: the caller's own */
export function entitle(caller: Caller, requested: string, policy: EntitlementPolicy, inventory: Inventory): Entitlement {
  const account = `${caller.namespace}/${caller.serviceAccount}`;
  if (requested === '') {
    return { verdict: 'granted', identity: `spiffe://${policy.trustDomain}/ns/${caller.namespace}/sa/${caller.serviceAccount}` };
  }
  if (!policy.trustedNodeAccounts.has(account)) return denied(`account ${account} may not ask for other identities`);
  const wanted = parseIdentity(requested);
  if (wanted === undefined) return { ...denied('it is no identity of a workload'), code: 'CERTIFICATE' };
  if (wanted.trustDomain !== policy.trustDomain) return denied(`its trust domain is ${wanted.trustDomain}, ours is ${policy.trustDomain}`);
  const place = nodeOf(caller, account, inventory);
  if (typeof place !== 'string') return place;
  const { namespace, serviceAccount } = wanted;
  if (!inventory.podsOnNode(place, namespace, serviceAccount))
    return denied(`no pod of account ${namespace}/${serviceAccount} is on node ${place}`, true);
  if (!inventory.serviceAccountExists(namespace, serviceAccount))
    return { verdict: 'account unknown', identity: requested, namespace, serviceAccount };
  return { verdict: 'granted', identity: requested };
}

/** The node that the caller's pod runs on. What the token says of it is compared with what the cluster says. */
function nodeOf(caller: Caller, account: string, inventory: Inventory): string | Entitlement {
  const { pod } = caller;
  // An authenticator that knows no pods speaks for the node itself.
  if (pod === undefined) return caller.node ?? denied('the token is bound to no pod, so its node is not known');
  const known = inventory.pod(caller.namespace, pod.name);
  const name = `${caller.namespace}/${pod.name}`;
  if (known === undefined) return denied(`pod ${name} of the caller is not known`, true);
  if (known.uid !== pod.uid) return denied(`pod ${name} has UID ${known.uid}, the token is bound to ${pod.uid}`, true);
  const runsAs = `${caller.namespace}/${known.serviceAccount}`;
  if (runsAs !== account) return denied(`pod ${name} runs as ${runsAs}, the token is of ${account}`);
  if (known.node === '') return denied(`pod ${name} is on no node yet`, true);
  if (caller.node !== undefined && caller.node !== known.node)
    return denied(`pod ${name} is on node ${known.node}, the token is bound to node ${caller.node}`, true);
  return known.node;
}

function denied(reason: string, later = false): Entitlement & { verdict: 'refused' } {
  return { verdict: 'refused', code: 'PERMISSION_DENIED', reason, later };
}
