/** enrolment.json: what the plugin goes by while the agent is away. Written whole, only when what it says changed. */
import { writeAtomically } from '../base/atomic-file.ts';
import { describe } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import { knownSelectors, namespaceEnrols } from '../enrol/policy.ts';
import type { EnablementSelector } from '../enrol/selectors.ts';
import type { MeshSnapshot } from '../sources/source.ts';
import type { EnrolmentFile } from './api.ts';

export interface EnrolmentOptions {
  path: string;
  node: string;
  excludedNamespaces: readonly string[];
  enablementSelectors?: readonly EnablementSelector[] | undefined;
  ownPods: EnrolmentFile['ownPods'];
  log: Logger;
}

export class EnrolmentWriter {
  readonly #o: EnrolmentOptions;
  #written = '';
  /** of the last snapshot: the same map means that only pods changed */
  #namespaces: MeshSnapshot['namespaces'] | undefined;
  #writing: Promise<void> = Promise.resolve();

  constructor(options: EnrolmentOptions) {
    this.#o = options;
  }

  /** A failed write is logged and repeated with the next snapshot: enrolment itself does not depend on it. */
  update(snapshot: MeshSnapshot): Promise<void> {
    if (snapshot.namespaces === this.#namespaces) return this.#writing;
    this.#namespaces = snapshot.namespaces;
    const content = enrolmentOf(snapshot, this.#o);
    const text = JSON.stringify(content);
    if (text === this.#written) return this.#writing;
    this.#written = text;
    this.#writing = this.#writing.then(async () => {
      try {
        await writeAtomically(this.#o.path, `${JSON.stringify({ ...content, writtenAt: new Date().toISOString() }, undefined, 2)}\n`);
      } catch (error) {
        this.#written = '';
        this.#namespaces = undefined;
        this.#o.log.error({ path: this.#o.path, error: describe(error) }, 'enrolment snapshot not written');
      }
    });
    return this.#writing;
  }
}

function enrolmentOf(snapshot: MeshSnapshot, o: EnrolmentOptions): Omit<EnrolmentFile, 'writtenAt'> {
  const rules = { excludedNamespaces: new Set(o.excludedNamespaces), selectors: knownSelectors(o.enablementSelectors) };
  const namespaces = [...snapshot.namespaces.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
  return {
    version: 1,
    node: o.node,
    excludedNamespaces: [...o.excludedNamespaces],
    namespaces: Object.fromEntries(namespaces.map((namespace) => [namespace.name, { enrolled: namespaceEnrols(namespace, rules) }])),
    ownPods: o.ownPods,
  };
}
