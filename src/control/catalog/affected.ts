/** What a batch of changes concerns: the pods, services and slices to describe anew. More than necessary is harmless, less is not. */
import type { EndpointSliceObject, NamespaceObject, NodeObject, ServiceObject } from '../cluster.ts';
import { namespaceOf, podTargets, serviceOf, type Records } from './records.ts';
import { SelectorIndex } from './selector-index.ts';
import { localityText } from './workload.ts';

export class Affected {
  readonly pods = new Set<string>();
  readonly services = new Set<string>();
  readonly slices = new Set<string>();
  readonly #records: Records;
  /** namespace → selectors of services that came, went or changed, as they were and as they are */
  readonly #selectors = new Map<string, SelectorIndex<ServiceObject>>();

  constructor(records: Records) {
    this.#records = records;
  }

  service(key: string, before: ServiceObject | undefined, after: ServiceObject | undefined): void {
    this.services.add(key);
    if (endpointText(before) === endpointText(after)) return;
    const namespace = namespaceOf(key);
    const selectors = this.#selectors.get(namespace) ?? new SelectorIndex<ServiceObject>();
    this.#selectors.set(namespace, selectors);
    for (const one of [before, after]) if (one !== undefined) selectors.set(one, one.selector);
    for (const slice of this.#records.slicesOf(key)) {
      this.slices.add(slice);
      for (const pod of podTargets(this.#records.slices.get(slice)).keys()) this.pods.add(pod);
    }
  }

  /** Readiness of endpoints moves slices all the time: only pods that enter or leave one are concerned. */
  slice(key: string, before: EndpointSliceObject | undefined, after: EndpointSliceObject | undefined): void {
    this.slices.add(key);
    const was = podTargets(before);
    const is = podTargets(after);
    const moved = before !== undefined && after !== undefined && serviceOf(before) !== serviceOf(after);
    for (const [pod, uid] of was) if (moved || is.get(pod) !== uid) this.pods.add(pod);
    for (const [pod, uid] of is) if (moved || was.get(pod) !== uid) this.pods.add(pod);
  }

  node(name: string, before: NodeObject | undefined, after: NodeObject | undefined): void {
    if (localityText(before) === localityText(after)) return;
    for (const pod of this.#records.podsOn(name)) this.pods.add(pod);
  }

  namespace(name: string, before: NamespaceObject | undefined, after: NamespaceObject | undefined): void {
    if (JSON.stringify(before?.annotations) === JSON.stringify(after?.annotations)) return;
    for (const service of this.#records.servicesOf(name)) this.services.add(service);
  }

  podsIn(namespaces: ReadonlySet<string> | 'all'): void {
    if (namespaces === 'all') for (const pod of this.#records.pods.keys()) this.pods.add(pod);
    else for (const namespace of namespaces) for (const pod of this.#records.podsOf(namespace)) this.pods.add(pod);
  }

  everything(): void {
    this.podsIn('all');
    for (const service of this.#records.services.keys()) this.services.add(service);
    for (const slice of this.#records.slices.keys()) this.slices.add(slice);
  }

  /** Adds the pods that changed services select or selected: one pass over a namespace, however many of its services changed. */
  resolve(): void {
    for (const [namespace, selectors] of this.#selectors)
      for (const key of this.#records.podsOf(namespace)) {
        const pod = this.#records.pods.get(key);
        if (pod !== undefined && selectors.matching(pod.labels).length > 0) this.pods.add(key);
      }
    this.#selectors.clear();
  }
}

/** What the records of a service's endpoints depend on. */
function endpointText(service: ServiceObject | undefined): string {
  if (service === undefined || service.type === 'ExternalName') return '';
  const { selector, ports } = service;
  return JSON.stringify([Object.entries(selector).sort(), ports.map(({ name, port, targetPort }) => [name, port, targetPort])]);
}
