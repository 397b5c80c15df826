/** What keeps a pod out of the mesh, told once to whoever shows it at the pod, and again when it comes back after it was over. */
import type { CulvertError } from '../base/errors.ts';
import type { Entry } from './registry.ts';

export type OnTrouble = (pod: { uid: string; namespace: string; name: string }, error: CulvertError) => void;

/** One failure may be a coincidence; from the second on it is trouble, and at once when trying again cannot help. */
const KEEPS_FAILING = 2;
/** Different messages of one pod; who has seen so many looks at the log. */
const AT_MOST = 10;

export class Troubles {
  readonly #onTrouble: OnTrouble | undefined;
  readonly #told = new WeakMap<Entry, Set<string>>();

  constructor(onTrouble: OnTrouble | undefined) {
    this.#onTrouble = onTrouble;
  }

  /** After every change of a pod. */
  follow(entry: Entry): void {
    const { error, attempts, state } = entry.pod;
    if (error === undefined) {
      if (state === 'enrolled' || (state === 'out' && !entry.decision.enrolled)) this.#told.delete(entry);
    } else if (attempts >= KEEPS_FAILING || !error.retryable) this.report(entry, error);
  }

  /** Once per message. */
  report(entry: Entry, error: CulvertError): void {
    const told = this.#told.get(entry) ?? new Set();
    this.#told.set(entry, told);
    if (told.has(error.message) || told.size >= AT_MOST || entry.record === undefined) return;
    told.add(error.message);
    const { uid, namespace, name } = entry.pod.subject;
    this.#onTrouble?.({ uid, namespace, name }, error);
  }
}
