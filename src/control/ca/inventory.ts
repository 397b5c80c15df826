/** What the certificate authority asks of the cluster's state. The catalog fills it as it stands. */
import type { KubeApi } from '../../kubernetes/api.ts';

export interface Inventory {
  pod(namespace: string, name: string): { uid: string; node: string; serviceAccount: string } | undefined;
  /** Is there a pod of this account on the node that has not ended (Succeeded, Failed)? */
  podsOnNode(node: string, namespace: string, serviceAccount: string): boolean;
  serviceAccountExists(namespace: string, name: string): boolean;
}

/** Asks the API itself, when the inventory does not know an account (yet). @throws KUBERNETES */
export type AccountLookup = (namespace: string, name: string) => Promise<boolean>;

export function accountLookup(api: KubeApi): AccountLookup {
  return async (namespace, name) => {
    const path = `/api/v1/namespaces/${encodeURIComponent(namespace)}/serviceaccounts/${encodeURIComponent(name)}`;
    return (await api.get(path)) !== undefined;
  };
}
