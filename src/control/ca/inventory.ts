/** What the certificate authority asks of the cluster's state. The catalog fills it as it stands. */

export interface Inventory {
  pod(namespace: string, name: string): { uid: string; node: string; serviceAccount: string } | undefined;
  /** Is there a pod of this account on the node that has not ended (Succeeded, Failed)? */
  podsOnNode(node: string, namespace: string, serviceAccount: string): boolean;
  serviceAccountExists(namespace: string, name: string): boolean;
}

/** Asks the API itself, when the inventory does not know an account (yet). */
export type AccountLookup = (namespace: string, name: string) => Promise<boolean>;
