/**
 * The cluster's objects turned into the resources of xDS. A change describes anew what it concerns and nothing else: one pod costs
 * one workload, a service its own record and the workloads behind it.
 */
import { describe } from '../../base/errors.ts';
import type { Logger } from '../../base/log.ts';
import type { ClusterObject, ObjectChange, PodObject } from '../cluster.ts';
import type { ResourceStore } from '../resource-store.ts';
import { Affected } from './affected.ts';
import { Claims } from './claims.ts';
import { renderEndpointSlice } from './endpoint-slice.ts';
import { Faults } from './faults.ts';
import { serviceResourceName, type MeshNames } from './mesh.ts';
import type { PolicyIndex } from './policies.ts';
import { Records, setOrDelete } from './records.ts';
import type { Rendered } from './rendered.ts';
import { renderService } from './service.ts';
import { isTerminal, renderPod } from './workload.ts';

const NETWORK_LABEL = 'topology.istio.io/network';
/** Pods described in one turn of the loop (about 20 ms): a policy of the mesh concerns all, and streams and callers must not wait for it. */
const PODS_AT_ONCE = 500;

export interface CatalogOptions extends MeshNames {
  /** its label topology.istio.io/network, when it has one, is the network's name instead of `network` */
  systemNamespace?: string;
  policies?: PolicyIndex;
  store: ResourceStore;
  log: Logger;
}

export class Catalog {
  readonly #options: CatalogOptions;
  readonly #records = new Records();
  readonly #affected = new Affected(this.#records);
  readonly #claims: Claims;
  readonly #faults: Faults;
  /** object ("Pod shop/web-1") → names of its resources */
  readonly #made = new Map<string, readonly string[]>();
  #mesh: MeshNames;
  #synced = false;
  #nextTurn: NodeJS.Immediate | undefined;

  constructor(options: CatalogOptions) {
    this.#options = options;
    this.#mesh = options;
    this.#claims = new Claims(options.log);
    this.#faults = new Faults(options.log);
  }

  apply(changes: readonly ObjectChange[]): void {
    for (const { kind, key, object } of changes) this.#take(kind, key, object);
    this.#publish();
  }

  /** The cluster is known in full. Until then nothing is published: a pod would be described once for each kind that arrives after it. */
  synced(): void {
    this.#synced = true;
    this.#publish(Infinity);
  }

  /**
   * @param namespaces whose pods may now be selected by other policies
   * @param atOnce policies are gone that pods refer to: until the pods are told of what stands in their place, nothing does
   */
  policiesChanged(namespaces: ReadonlySet<string> | 'all', atOnce = false): void {
    this.#affected.podsIn(namespaces);
    this.#publish(atOnce ? Infinity : PODS_AT_ONCE);
  }

  pod(namespace: string, name: string): PodObject | undefined {
    return this.#records.pods.get(`${namespace}/${name}`);
  }

  /** True when a pod with this account, not done yet, is on the node. */
  podsOnNode(node: string, namespace: string, serviceAccount: string): boolean {
    for (const key of this.#records.podsOn(node)) {
      const pod = this.#records.pods.get(key);
      if (pod !== undefined && pod.namespace === namespace && pod.serviceAccount === serviceAccount && !isTerminal(pod)) return true;
    }
    return false;
  }

  serviceAccountExists(namespace: string, name: string): boolean {
    return this.#records.accounts.has(`${namespace}/${name}`);
  }

  /** Names of those that exist; one that is being deleted is not among them. */
  namespaces(): string[] {
    return [...this.#records.namespaces.values()].filter(({ terminating }) => !terminating).map(({ name }) => name);
  }

  #take(kind: ObjectChange['kind'], key: string, object: ClusterObject | undefined): void {
    const records = this.#records;
    switch (kind) {
      case 'Pod':
        records.setPod(key, of('Pod', object));
        this.#affected.pods.add(key);
        break;
      case 'Service': {
        const before = records.services.get(key);
        const after = of('Service', object);
        records.setService(key, after);
        this.#affected.service(key, before, after);
        break;
      }
      case 'EndpointSlice': {
        const before = records.slices.get(key);
        const after = of('EndpointSlice', object);
        records.setSlice(key, after);
        this.#affected.slice(key, before, after);
        break;
      }
      case 'Node': {
        const before = records.nodes.get(key);
        const after = of('Node', object);
        setOrDelete(records.nodes, key, after);
        this.#affected.node(key, before, after);
        break;
      }
      case 'Namespace': {
        const before = records.namespaces.get(key);
        const after = of('Namespace', object);
        setOrDelete(records.namespaces, key, after);
        this.#affected.namespace(key, before, after);
        if (key === this.#options.systemNamespace) this.#rename(after?.labels[NETWORK_LABEL] ?? this.#options.network);
        break;
      }
      case 'ServiceAccount':
        if (object === undefined) records.accounts.delete(key);
        else records.accounts.add(key);
        break;
      case 'AuthorizationPolicy':
      case 'PeerAuthentication':
        break; // the policies' own business
    }
  }

  #rename(network: string): void {
    if (network === this.#mesh.network) return;
    this.#mesh = { ...this.#mesh, network };
    this.#affected.everything();
  }

  /** @param most pods; the others follow in the next turns */
  #publish(most = PODS_AT_ONCE): void {
    if (!this.#synced) return;
    const { pods, services, slices } = this.#affected;
    this.#affected.resolve();
    const set: Rendered[] = [];
    const removed: string[] = [];
    const put = (object: string, render: (faults: string[]) => readonly Rendered[]): void => {
      const faults: string[] = [];
      const rendered = attempt(() => render(faults), faults);
      this.#faults.set(object, faults);
      if (rendered === undefined) return;
      const names = rendered.map(({ name }) => name);
      for (const name of this.#made.get(object) ?? []) if (!names.includes(name)) removed.push(name);
      setOrDelete(this.#made, object, names.length === 0 ? undefined : names);
      set.push(...rendered);
    };
    for (const key of services) put(`Service ${key}`, (faults) => this.#service(key, faults));
    let room = most;
    for (const key of pods) {
      if (room-- <= 0) break;
      pods.delete(key);
      put(`Pod ${key}`, (faults) => this.#pod(key, faults));
    }
    for (const key of slices) put(`EndpointSlice ${key}`, (faults) => this.#slice(key, faults));
    services.clear();
    slices.clear();
    if (pods.size > 0) {
      this.#nextTurn ??= setImmediate(() => {
        this.#nextTurn = undefined;
        this.#publish();
      });
    }
    for (const name of removed) this.#claims.set(name, []);
    for (const { name, claims } of set) this.#claims.set(name, claims);
    this.#claims.report();
    this.#options.store.apply('address', set, removed);
  }

  #service(key: string, faults: string[]): Rendered[] {
    const service = this.#records.services.get(key);
    if (service === undefined) return [];
    const rendered = renderService(this.#mesh, service, this.#records.namespaces.get(service.namespace), faults);
    return rendered === undefined ? [] : [rendered];
  }

  #pod(key: string, faults: string[]): Rendered[] {
    const pod = this.#records.pods.get(key);
    if (pod === undefined) return [];
    const around = {
      node: this.#records.nodes.get(pod.node),
      services: this.#records
        .servicesWith(key, pod)
        .map((service) => ({ name: serviceResourceName(this.#mesh, service), service }))
        .sort((a, b) => (a.name < b.name ? -1 : 1)),
      policies: this.#options.policies?.selecting(pod.namespace, pod.labels) ?? [],
    };
    const rendered = renderPod(this.#mesh, pod, around, faults);
    return rendered === undefined ? [] : [rendered];
  }

  #slice(key: string, faults: string[]): Rendered[] {
    const slice = this.#records.slices.get(key);
    if (slice === undefined || slice.service === '') return [];
    return renderEndpointSlice(this.#mesh, slice, this.#records.services.get(`${slice.namespace}/${slice.service}`), faults);
  }
}

/** A driver that puts an object under another kind's change would be at fault; it counts as gone. */
function of<K extends ClusterObject['kind']>(kind: K, object: ClusterObject | undefined): Extract<ClusterObject, { kind: K }> | undefined {
  return object?.kind === kind ? (object as Extract<ClusterObject, { kind: K }>) : undefined;
}

/** Values that cannot be encoded are one object's fault, and must not keep the others from being told. */
function attempt<T>(render: () => T, faults: string[]): T | undefined {
  try {
    return render();
  } catch (error) {
    faults.push(`it stays as it was: ${describe(error)}`);
    return undefined;
  }
}
