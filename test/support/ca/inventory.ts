/** An inventory whose contents a test sets. */
import { Changes } from '../../../src/base/changes.ts';
import type { Inventory } from '../../../src/control/ca/inventory.ts';

export interface KnownPod {
  namespace: string;
  name: string;
  uid: string;
  node: string;
  serviceAccount: string;
}

export class SetInventory implements Inventory {
  readonly changes = new Changes();
  pods: readonly KnownPod[] = [];
  /** "namespace/name" */
  accounts: ReadonlySet<string> = new Set();
  /** how often a pod was looked up */
  asked = 0;

  pod(namespace: string, name: string): KnownPod | undefined {
    this.asked++;
    return this.pods.find((pod) => pod.namespace === namespace && pod.name === name);
  }

  podsOnNode(node: string, namespace: string, serviceAccount: string): boolean {
    return this.pods.some((pod) => pod.node === node && pod.namespace === namespace && pod.serviceAccount === serviceAccount);
  }

  serviceAccountExists(namespace: string, name: string): boolean {
    return this.accounts.has(`${namespace}/${name}`);
  }

  set(change: { pods?: readonly KnownPod[]; accounts?: readonly string[] }): void {
    if (change.pods !== undefined) this.pods = change.pods;
    if (change.accounts !== undefined) this.accounts = new Set(change.accounts);
    this.changes.notify();
  }
}
