/**
 * What one stream wants of one type, and what it has yet to hear: names, never contents, so that a slow client gets the state as it
 * is when it can take it, and costs no more than the names until then.
 */
import type { DeltaDiscoveryRequest } from '../../proto/discovery_pb.js';
import type { ResourceStore } from '../resource-store.ts';
import type { ResourceKind } from '../resources.ts';
import type { Batch } from './batch.ts';

/** What to send now. */
export type Due =
  { what: 'everything'; missing: readonly string[] } | { what: 'batch'; batch: Batch } | { what: 'names'; names: readonly string[] };

const EVERYTHING = '*';

export class Subscription {
  readonly kind: ResourceKind;
  readonly #store: ResourceStore;
  /** of an on-demand client: its node's pods are given unasked */
  readonly #node: string;
  #wildcard = false;
  /** on demand: names and aliases asked for, also of what does not exist yet */
  readonly #asked = new Set<string>();
  /** on demand: names told, asked for or not, that changes must follow */
  readonly #told = new Set<string>();
  /** name → whether the client may hold it already (of what it does not, a removal need not be told) */
  readonly #backlog = new Map<string, boolean>();
  /** a backlog that is exactly one batch; the other one is empty then */
  #batch: Batch | undefined;
  #everything = false;
  /** names were asked for since the last time */
  #fresh = false;
  /** the first request is answered in any case: the client counts itself synced by it */
  #owed = true;

  constructor(kind: ResourceKind, store: ResourceStore, node: string) {
    this.kind = kind;
    this.#store = store;
    this.#node = node;
  }

  /** What is due is read from the store, not told by a push: pending changes must be pushed before, or a removal may be missed. */
  get readsAhead(): boolean {
    return this.#everything || this.#fresh;
  }

  get wildcard(): boolean {
    return this.#wildcard;
  }

  /** Names held in memory for this stream. */
  get size(): number {
    return this.#asked.size + this.#told.size + this.#backlog.size;
  }

  get due(): boolean {
    return this.#owed || this.#everything || this.#batch !== undefined || this.#backlog.size > 0;
  }

  /** Names that wait to be sent. */
  get waiting(): number {
    if (this.#everything) return this.#store.size(this.kind);
    return this.#backlog.size + (this.#batch === undefined ? 0 : this.#batch.changed.size + this.#batch.removed.size);
  }

  /** The first request of the type on this stream. Without names it means everything; "*" given and taken back at once means nothing yet. */
  open(request: DeltaDiscoveryRequest): void {
    const { resourceNamesSubscribe: names, resourceNamesUnsubscribe: without, initialResourceVersions: held } = request;
    this.#wildcard = (names.length === 0 || names.includes(EVERYTHING)) && !without.includes(EVERYTHING);
    if (this.#wildcard) this.#openAll(held);
    else this.#openSome(held, new Set(without));
    this.#subscribe(
      names.filter((name) => !without.includes(name)),
      held,
    );
  }

  /** Names added or dropped later. */
  update({ resourceNamesSubscribe: names, resourceNamesUnsubscribe: without }: DeltaDiscoveryRequest): void {
    for (const name of without) this.#unsubscribe(name);
    if (names.includes(EVERYTHING)) {
      this.#wildcard = true;
      this.#everything = true;
      this.#asked.clear();
      this.#told.clear();
    }
    this.#subscribe(names, {});
  }

  changed(batch: Batch): void {
    if (this.#everything) return;
    if (this.#wildcard && !this.due) {
      this.#batch = batch;
      return;
    }
    this.#spill();
    this.#merge(batch);
  }

  /** What is due, which then no longer is; call only when something is. */
  take(): Due {
    this.#owed = false;
    this.#fresh = false;
    if (this.#everything) {
      this.#everything = false;
      this.#batch = undefined;
      return { what: 'everything', missing: this.#drain().filter((name) => this.#resolve(name).length === 0) };
    }
    const batch = this.#batch;
    if (batch !== undefined) {
      this.#batch = undefined;
      return { what: 'batch', batch };
    }
    return { what: 'names', names: this.#drain() };
  }

  #drain(): string[] {
    const names = [...this.#backlog.keys()];
    this.#backlog.clear();
    // What is sent must be followed, also when it went and came back meanwhile as something that nobody asked for.
    if (!this.#wildcard) for (const name of names) if (this.#store.get(this.kind, name) !== undefined) this.#told.add(name);
    return names;
  }

  #openAll(held: Readonly<Record<string, string>>): void {
    const names = Object.keys(held);
    if (names.length === 0) {
      this.#everything = true;
      return;
    }
    for (const { name, version } of this.#store.all(this.kind))
      if (held[name] !== version) this.#backlog.set(name, Object.hasOwn(held, name));
    for (const name of names) if (this.#store.get(this.kind, name) === undefined) this.#backlog.set(name, true);
  }

  /** What the client still has counts as asked for. */
  #openSome(held: Readonly<Record<string, string>>, without: ReadonlySet<string>): void {
    this.#subscribe(
      Object.keys(held).filter((name) => !without.has(name)),
      held,
    );
    if (this.#node !== '') for (const name of this.#store.byNode(this.#node)) this.#tell(name, held);
  }

  #subscribe(names: readonly string[], held: Readonly<Record<string, string>>): void {
    for (const name of names) {
      if (name === EVERYTHING) continue;
      this.#spill();
      this.#fresh = true;
      if (!this.#wildcard) this.#asked.add(name);
      const found = this.#resolve(name);
      // Asked for by address, it is told again even when the client has it: it waits for an answer to this name.
      for (const one of found) this.#tell(one, one === name ? held : {});
      for (const one of found) for (const workload of this.#behind(one)) this.#tell(workload, held);
      // It is answered in any case: what is gone again when its turn comes, as removed.
      if (found[0] !== name || this.#backlog.has(name)) this.#backlog.set(name, true);
    }
  }

  #unsubscribe(name: string): void {
    if (name === EVERYTHING) {
      this.#wildcard = false;
      this.#everything = false;
      this.#batch = undefined;
      this.#backlog.clear();
    } else if (this.#wildcard) {
      this.#spill();
      this.#backlog.set(name, true); // everything includes it: the protocol wants it said again
    } else {
      this.#asked.delete(name);
      this.#told.delete(name);
      this.#backlog.delete(name);
    }
  }

  #tell(name: string, held: Readonly<Record<string, string>>): void {
    const has = Object.hasOwn(held, name);
    const known = has || this.#wildcard || this.#told.has(name);
    if (!this.#wildcard) this.#told.add(name);
    if (has && held[name] === this.#store.get(this.kind, name)?.version) return;
    this.#backlog.set(name, known);
  }

  #spill(): void {
    const batch = this.#batch;
    this.#batch = undefined;
    if (batch !== undefined) this.#merge(batch);
  }

  #merge(batch: Batch): void {
    for (const name of batch.changed) {
      if (!this.#wildcard && !this.#follows(name)) continue;
      if (!this.#backlog.has(name)) this.#backlog.set(name, !batch.added.has(name));
    }
    for (const name of batch.removed) {
      if (!this.#wildcard && !this.#told.delete(name) && !this.#asked.has(name)) continue;
      if (this.#backlog.get(name) === false) this.#backlog.delete(name);
      else this.#backlog.set(name, true);
    }
  }

  /** On demand: whether the client must hear of it, by its name, its address, a service that it asked for, or its node. */
  #follows(name: string): boolean {
    const known = this.#told.has(name);
    const resource = this.#store.get(this.kind, name);
    if (known || resource === undefined) return known;
    const follows =
      this.#asked.has(name) ||
      resource.aliases.some((alias) => this.#asked.has(alias)) ||
      resource.services.some((service) => this.#asked.has(service) || this.#told.has(service)) ||
      (this.#node !== '' && resource.node === this.#node);
    if (!follows) return false;
    this.#told.add(name);
    for (const workload of this.#behind(name)) if (!this.#told.has(workload)) this.#tell(workload, {});
    return true;
  }

  /** @param name or "network/address" @returns names of what is there */
  #resolve(name: string): string[] {
    if (this.#store.get(this.kind, name) !== undefined) return [name];
    return this.kind === 'address' ? [...this.#store.byAlias(name)] : [];
  }

  #behind(name: string): Iterable<string> {
    return this.kind === 'address' ? this.#store.byService(name) : [];
  }
}
