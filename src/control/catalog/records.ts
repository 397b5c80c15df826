/** The cluster's objects as they are now, with the few indexes that tell what a change concerns. */
import type { EndpointSliceObject, NamespaceObject, NodeObject, PodObject, ServiceObject } from '../cluster.ts';
import { NameIndex } from '../name-index.ts';
import { SelectorIndex } from './selector-index.ts';

/** Keys are "namespace/name". */
export class Records {
  readonly pods = new Map<string, PodObject>();
  readonly services = new Map<string, ServiceObject>();
  readonly slices = new Map<string, EndpointSliceObject>();
  readonly nodes = new Map<string, NodeObject>();
  readonly namespaces = new Map<string, NamespaceObject>();
  readonly accounts = new Set<string>();

  readonly #podsOf = new Map<string, Set<string>>();
  readonly #servicesOf = new Map<string, Set<string>>();
  readonly #podsOn = new NameIndex();
  /** namespace → keys of services by their selector */
  readonly #selectors = new Map<string, SelectorIndex<string>>();
  readonly #slicesOfService = new NameIndex();
  readonly #slicesOfPod = new NameIndex();

  setPod(key: string, pod: PodObject | undefined): void {
    const before = this.pods.get(key);
    if (before !== undefined && before.node !== pod?.node) this.#podsOn.delete(before.node, key);
    if (pod !== undefined && before?.node !== pod.node && pod.node !== '') this.#podsOn.add(pod.node, key);
    setOrDelete(this.pods, key, pod);
    file(this.#podsOf, key, pod !== undefined);
  }

  setService(key: string, service: ServiceObject | undefined): void {
    setOrDelete(this.services, key, service);
    file(this.#servicesOf, key, service !== undefined);
    const namespace = namespaceOf(key);
    const selectors = this.#selectors.get(namespace) ?? new SelectorIndex<string>();
    if (isServed(service)) selectors.set(key, service.selector);
    else selectors.delete(key);
    setOrDelete(this.#selectors, namespace, selectors.size === 0 ? undefined : selectors);
  }

  setSlice(key: string, slice: EndpointSliceObject | undefined): void {
    const before = this.slices.get(key);
    if (before !== undefined) {
      this.#slicesOfService.delete(serviceOf(before), key);
      for (const pod of podTargets(before).keys()) this.#slicesOfPod.delete(pod, key);
    }
    setOrDelete(this.slices, key, slice);
    if (slice === undefined) return;
    this.#slicesOfService.add(serviceOf(slice), key);
    for (const pod of podTargets(slice).keys()) this.#slicesOfPod.add(pod, key);
  }

  podsOf(namespace: string): Iterable<string> {
    return this.#podsOf.get(namespace) ?? [];
  }

  servicesOf(namespace: string): Iterable<string> {
    return this.#servicesOf.get(namespace) ?? [];
  }

  podsOn(node: string): Iterable<string> {
    return this.#podsOn.get(node);
  }

  /** @param service its key */
  slicesOf(service: string): Iterable<string> {
    return this.#slicesOfService.get(service);
  }

  /**
   * Services that a pod is an endpoint of: those that select it, and those whose EndpointSlices name this very pod (its UID, when
   * the slice has one: a pod made anew under the same name is another).
   */
  servicesWith(key: string, pod: PodObject): ServiceObject[] {
    const keys = new Set(this.#selectors.get(pod.namespace)?.matching(pod.labels));
    for (const sliceKey of this.#slicesOfPod.get(key)) {
      const slice = this.slices.get(sliceKey);
      if (slice === undefined || keys.has(serviceOf(slice))) continue;
      const uid = podTargets(slice).get(key);
      if (uid === '' || uid === pod.uid) keys.add(serviceOf(slice));
    }
    return [...keys].map((one) => this.services.get(one)).filter(isServed);
  }
}

/** DNS resolves an ExternalName elsewhere; it has neither addresses nor endpoints. */
function isServed(service: ServiceObject | undefined): service is ServiceObject {
  return service !== undefined && service.type !== 'ExternalName';
}

/** Pods that a slice of a service names: key → UID, empty when it does not say. */
export function podTargets(slice: EndpointSliceObject | undefined): Map<string, string> {
  const targets = new Map<string, string>();
  if (slice === undefined || slice.service === '' || slice.addressType === 'FQDN') return targets;
  for (const { target } of slice.endpoints) if (target?.kind === 'Pod') targets.set(`${target.namespace}/${target.name}`, target.uid);
  return targets;
}

export function serviceOf(slice: EndpointSliceObject): string {
  return `${slice.namespace}/${slice.service}`;
}

export function namespaceOf(key: string): string {
  return key.slice(0, key.indexOf('/'));
}

export function setOrDelete<T>(map: Map<string, T>, key: string, value: T | undefined): void {
  if (value === undefined) map.delete(key);
  else map.set(key, value);
}

function file(index: Map<string, Set<string>>, key: string, present: boolean): void {
  const namespace = namespaceOf(key);
  const keys = index.get(namespace) ?? new Set<string>();
  if (present) keys.add(key);
  else keys.delete(key);
  setOrDelete(index, namespace, keys.size === 0 ? undefined : keys);
}
