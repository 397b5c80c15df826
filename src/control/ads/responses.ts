/** Responses as bytes. What many streams get at once is encoded once. */
import type { ResourceStore } from '../resource-store.ts';
import { TYPE_URLS, type Resource, type ResourceKind } from '../resources.ts';
import type { Batch } from './batch.ts';
import { encodeResponse } from './response.ts';
import type { Due } from './subscription.ts';

export interface Response {
  nonce: string;
  bytes: Buffer;
}

export class Responses {
  readonly #store: ResourceStore;
  /** of everything of a kind: kept while nothing changes, for tunnels that come together */
  readonly #full = new Map<ResourceKind, Response & { revision: number }>();
  #nonces = 0;

  constructor(store: ResourceStore) {
    this.#store = store;
  }

  of(kind: ResourceKind, due: Due): Response {
    switch (due.what) {
      case 'everything':
        return due.missing.length === 0 ? this.#everything(kind) : this.#encode(kind, this.#store.all(kind), due.missing);
      case 'batch':
        return (due.batch.encoded ??= this.#batch(kind, due.batch));
      case 'names':
        return this.#names(kind, due.names);
    }
  }

  /** For a type that we have nothing of: whoever waits for it need not wait for ever. */
  empty(typeUrl: string): Buffer {
    return encodeResponse({ typeUrl, nonce: this.#nonce(), systemVersion: '0', resources: [], removed: [] });
  }

  /** Lets go of what no longer holds. */
  changed(kind: ResourceKind): void {
    this.#full.delete(kind);
  }

  #everything(kind: ResourceKind): Response {
    const revision = this.#store.revision(kind);
    const kept = this.#full.get(kind);
    if (kept?.revision === revision) return kept;
    const made = { ...this.#encode(kind, this.#store.all(kind), []), revision };
    this.#full.set(kind, made);
    return made;
  }

  #batch(kind: ResourceKind, batch: Batch): Response {
    const resources = [...batch.changed].map((name) => this.#store.get(kind, name)).filter((one) => one !== undefined);
    return this.#encode(kind, resources, [...batch.removed]);
  }

  /** The state as it is now: of a name, or an address, that nothing answers to, its absence. */
  #names(kind: ResourceKind, names: readonly string[]): Response {
    const resources: Resource[] = [];
    const missing: string[] = [];
    for (const name of names) {
      const resource = this.#store.get(kind, name);
      if (resource === undefined) missing.push(name);
      else resources.push(resource);
    }
    const answered = new Set(resources.flatMap(({ aliases }) => aliases));
    return this.#encode(
      kind,
      resources,
      missing.filter((name) => !answered.has(name)),
    );
  }

  #encode(kind: ResourceKind, resources: Iterable<Resource>, removed: readonly string[]): Response {
    const nonce = this.#nonce();
    const bytes = encodeResponse({
      typeUrl: TYPE_URLS[kind],
      nonce,
      systemVersion: String(this.#store.revision(kind)),
      resources: Array.from(resources, (resource) => resource.bytes),
      removed,
    });
    return { nonce, bytes };
  }

  #nonce(): string {
    this.#nonces++;
    return String(this.#nonces);
  }
}
