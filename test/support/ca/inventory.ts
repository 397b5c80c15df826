/** An inventory whose contents a test sets. */
import type { Inventory } from '../../../src/control/ca/inventory.ts';

export interface KnownPod {
  namespace: string;
  name: string;
  uid: string;
  node: string;
  serviceAccount: string;
}

export class SetInventory implements Inventory {
  readonly #listeners = new Set<() => void>();
  pods: KnownPod[] = [];
  /** "namespace/name" */
  accounts = new Set<string>();

  pod(namespace: string, name: string): KnownPod | undefined {
    return this.pods.find((pod) => pod.namespace === namespace && pod.name === name);
  }

  runsOn(node: string, namespace: string, serviceAccount: string): boolean {
    return this.pods.some((pod) => pod.node === node && pod.namespace === namespace && pod.serviceAccount === serviceAccount);
  }

  serviceAccountExists(namespace: string, name: string): boolean {
    return this.accounts.has(`${namespace}/${name}`);
  }

  onChange(listener: () => void): { close(): void } {
    this.#listeners.add(listener);
    return { close: () => this.#listeners.delete(listener) };
  }

  get waiting(): number {
    return this.#listeners.size;
  }

  set(change: { pods?: KnownPod[]; accounts?: string[] }): void {
    if (change.pods !== undefined) this.pods = change.pods;
    if (change.accounts !== undefined) this.accounts = new Set(change.accounts);
    for (const listener of [...this.#listeners]) listener();
  }
}
