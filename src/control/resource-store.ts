/**
 * What control serves at this moment: every resource by its name, encoded once and shared by all streams. Content that did not
 * change is dropped here, so that nobody downstream need compare.
 */
import { hash } from 'node:crypto';
import { BinaryWriter, WireType } from '@bufbuild/protobuf/wire';
import { NameIndex } from './name-index.ts';
import { TYPE_URLS, type Resource, type ResourceChange, type ResourceContent, type ResourceKind } from './resources.ts';

/** 64 bits: it only has to tell versions of one resource apart. */
const VERSION_CHARS = 16;

type ChangeListener = (change: ResourceChange) => void;

export class ResourceStore {
  readonly #resources: Record<ResourceKind, Map<string, Resource>> = { address: new Map(), authorization: new Map() };
  readonly #revisions: Record<ResourceKind, number> = { address: 0, authorization: 0 };
  readonly #byAlias = new NameIndex();
  readonly #byService = new NameIndex();
  readonly #byNode = new NameIndex();
  readonly #listeners = new Set<ChangeListener>();

  /** One change for those who listen. A name that is both set and removed is set. */
  apply(kind: ResourceKind, set: readonly ResourceContent[], removed: readonly string[]): void {
    const resources = this.#resources[kind];
    const changed: string[] = [];
    const added = new Set<string>();
    const names = new Set<string>();
    for (const content of set) {
      names.add(content.name);
      const before = resources.get(content.name);
      const version = versionOf(kind, content.message);
      if (before?.version === version) continue;
      if (before === undefined) added.add(content.name);
      else this.#unlink(before);
      const resource = resourceOf(kind, content, version);
      resources.set(content.name, resource);
      this.#link(resource);
      changed.push(content.name);
    }
    const gone = removed.filter((name) => {
      const before = names.has(name) ? undefined : resources.get(name);
      if (before !== undefined) this.#unlink(before);
      return before !== undefined && resources.delete(name);
    });
    if (changed.length === 0 && gone.length === 0) return;
    this.#revisions[kind]++;
    for (const listener of [...this.#listeners]) listener({ kind, changed, added, removed: gone });
  }

  get(kind: ResourceKind, name: string): Resource | undefined {
    return this.#resources[kind].get(name);
  }

  all(kind: ResourceKind): Iterable<Resource> {
    return this.#resources[kind].values();
  }

  size(kind: ResourceKind): number {
    return this.#resources[kind].size;
  }

  /** Counts the changes of a kind, so that what was made of all its resources can be kept until the next one. */
  revision(kind: ResourceKind): number {
    return this.#revisions[kind];
  }

  /** @param alias "network/address"; more than one name when an address is claimed twice */
  byAlias(alias: string): Iterable<string> {
    return this.#byAlias.get(alias);
  }

  /** @param service its name @returns names of the workloads behind it */
  byService(service: string): Iterable<string> {
    return this.#byService.get(service);
  }

  /** @returns names of the workloads on a node */
  byNode(node: string): Iterable<string> {
    return this.#byNode.get(node);
  }

  /** @returns ends it */
  onChange(listener: ChangeListener): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  #link({ name, aliases, services, node }: Resource): void {
    for (const alias of aliases) this.#byAlias.add(alias, name);
    for (const service of services) this.#byService.add(service, name);
    if (node !== '') this.#byNode.add(node, name);
  }

  #unlink({ name, aliases, services, node }: Resource): void {
    for (const alias of aliases) this.#byAlias.delete(alias, name);
    for (const service of services) this.#byService.delete(service, name);
    if (node !== '') this.#byNode.delete(node, name);
  }
}

function versionOf(kind: ResourceKind, message: Uint8Array): string {
  return hash('sha256', Buffer.concat([Buffer.from(TYPE_URLS[kind]), message]), 'hex').slice(0, VERSION_CHARS);
}

function resourceOf(kind: ResourceKind, content: ResourceContent, version: string): Resource {
  const { name, message, aliases = [], node = '', services = [] } = content;
  // By hand, because the message is encoded already: `Resource` {version = 1, resource = 2: Any {type_url = 1, value = 2}, name = 3, aliases = 4}.
  const writer = new BinaryWriter();
  writer.tag(1, WireType.LengthDelimited).string(version);
  writer.tag(2, WireType.LengthDelimited).fork();
  writer.tag(1, WireType.LengthDelimited).string(TYPE_URLS[kind]);
  writer.tag(2, WireType.LengthDelimited).bytes(message).join();
  writer.tag(3, WireType.LengthDelimited).string(name);
  for (const alias of aliases) writer.tag(4, WireType.LengthDelimited).string(alias);
  return { name, version, bytes: writer.finish(), aliases, node, services };
}
