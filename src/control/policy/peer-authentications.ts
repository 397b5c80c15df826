/** All PeerAuthentication of a mesh: what stands for them, and which of it a workload refers to. */
import type { Authorization } from '../../proto/security_pb.js';
import type { PeerAuthentication } from './peer-authentication.ts';
import { Selectors } from './selector.ts';
import { converted, convertedName, isStrict, oldest, standsFor, STATIC_STRICT, staticStrict } from './strict.ts';

export interface PeerChange {
  /** names of resources that may differ */
  names: ReadonlySet<string>;
  /** namespaces in which selection may differ */
  affected: ReadonlySet<string> | 'all';
}

export class PeerAuthentications {
  readonly #root: string;
  readonly #all = new Map<string, PeerAuthentication>();
  /** namespace → keys */
  readonly #namespaces = new Map<string, Set<string>>();
  /** namespace → the one without selector that counts */
  readonly #levels = new Map<string, PeerAuthentication>();
  /** by resource name */
  readonly #convertible = new Map<string, PeerAuthentication>();
  readonly #selectors = new Selectors();

  constructor(rootNamespace: string) {
    this.#root = rootNamespace;
  }

  /** @param changes by key; undefined: gone, or without effect */
  apply(changes: ReadonlyMap<string, PeerAuthentication | undefined>): PeerChange {
    if (changes.size === 0) return { names: new Set(), affected: new Set() };
    const names = new Set<string>([this.#staticName]);
    const affected = new Set<string>();
    const touched = new Map<string, boolean>([...changes.keys()].map((key) => [namespaceOf(key), this.#strictIn(namespaceOf(key))]));
    const meshWas = this.#strictIn(this.#root);
    for (const [key, peer] of changes) this.#put(key, peer, { names, affected });
    for (const namespace of touched.keys()) this.#relevel(namespace);
    for (const [namespace, was] of touched) if (this.#strictIn(namespace) !== was) this.#inherit(namespace, { names, affected });
    if (this.#strictIn(this.#root) === meshWas) return { names, affected };
    for (const namespace of this.#namespaces.keys()) this.#inherit(namespace, { names, affected });
    return { names, affected: 'all' };
  }

  /** @returns undefined: nothing goes by this name now */
  authorization(name: string): Authorization | undefined {
    if (name === this.#staticName) return this.#all.size === 0 ? undefined : staticStrict(this.#root);
    const peer = this.#convertible.get(name);
    if (peer === undefined) return undefined;
    const inherited = this.#strictIn(peer.namespace);
    return standsFor(peer, inherited) === 'own' ? converted(peer, inherited) : undefined;
  }

  selecting(namespace: string, labels: Readonly<Record<string, string>>): string[] {
    const inherited = this.#strictIn(namespace);
    const own = oldest([...this.#selectors.matching(namespace, labels)].flatMap((key) => this.#all.get(key) ?? []));
    const standing = own === undefined ? (inherited ? 'static' : undefined) : standsFor(own, inherited);
    if (standing === 'own' && own !== undefined) return [resourceName(own)];
    return standing === 'static' ? [this.#staticName] : [];
  }

  get #staticName(): string {
    return `${this.#root}/${STATIC_STRICT}`;
  }

  /** What workloads in it inherit. */
  #strictIn(namespace: string): boolean {
    const mesh = isStrict(this.#levels.get(this.#root), false);
    return namespace === this.#root ? mesh : isStrict(this.#levels.get(namespace), mesh);
  }

  #put(key: string, peer: PeerAuthentication | undefined, { names, affected }: { names: Set<string>; affected: Set<string> }): void {
    const namespace = namespaceOf(key);
    const before = this.#all.get(key);
    for (const each of [before, peer]) {
      if (each?.selector === undefined) continue;
      this.#convertible.delete(resourceName(each));
      names.add(resourceName(each));
      affected.add(namespace);
    }
    this.#selectors.set(namespace, key, peer?.selector);
    const keys = this.#namespaces.get(namespace) ?? new Set<string>();
    this.#namespaces.set(namespace, keys);
    if (peer === undefined) {
      this.#all.delete(key);
      keys.delete(key);
      if (keys.size === 0) this.#namespaces.delete(namespace);
    } else {
      this.#all.set(key, peer);
      keys.add(key);
      if (peer.selector !== undefined) this.#convertible.set(resourceName(peer), peer);
    }
  }

  #in(namespace: string): PeerAuthentication[] {
    return [...(this.#namespaces.get(namespace) ?? [])].flatMap((key) => this.#all.get(key) ?? []);
  }

  #relevel(namespace: string): void {
    const level = oldest(this.#in(namespace).filter(({ selector }) => selector === undefined));
    if (level === undefined) this.#levels.delete(namespace);
    else this.#levels.set(namespace, level);
  }

  /** What this namespace inherits is another. */
  #inherit(namespace: string, { names, affected }: { names: Set<string>; affected: Set<string> }): void {
    affected.add(namespace);
    for (const peer of this.#in(namespace)) if (peer.selector !== undefined) names.add(resourceName(peer));
  }
}

function namespaceOf(key: string): string {
  return key.slice(0, key.indexOf('/'));
}

function resourceName(peer: PeerAuthentication): string {
  return `${peer.namespace}/${convertedName(peer)}`;
}
