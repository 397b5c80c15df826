/** What the catalogue asks of the policies: which of them select a pod. Who keeps them says when the answer may differ. */
export interface PolicyIndex {
  /** @returns names of the policies of scope WORKLOAD_SELECTOR that select a pod with these labels, sorted */
  selecting(namespace: string, labels: Readonly<Record<string, string>>): string[];
}
