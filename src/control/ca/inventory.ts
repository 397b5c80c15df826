/**
 * What the certificate authority asks of the cluster's state. The catalog fills it as it stands (structurally), with:
 * `pod(namespace, name): PodObject | undefined`, `runsOn(node, namespace, serviceAccount): boolean`,
 * `serviceAccountExists(namespace, name): boolean`, `onChange(listener): { close(): void }`.
 */

export interface Inventory {
  pod(namespace: string, name: string): { uid: string; node: string; serviceAccount: string } | undefined;
  /** Is there a pod of this account on the node that has not ended (Succeeded, Failed)? */
  runsOn(node: string, namespace: string, serviceAccount: string): boolean;
  serviceAccountExists(namespace: string, name: string): boolean;
  /** After every batch of changes, so that what is a little behind can be waited for. */
  onChange(listener: () => void): { close(): void };
}

/** Asks the API itself, when the inventory does not know an account (yet). */
export type AccountLookup = (namespace: string, name: string) => Promise<boolean>;
