/** Objects of a cluster, so that a test states only what matters to it; and the resources made of them. */
import { fromBinary } from '@bufbuild/protobuf';
import { Catalog, type CatalogOptions } from '../../../../src/control/catalog/catalog.ts';
import {
  objectKey,
  type ClusterObject,
  type EndpointSliceObject,
  type NamespaceObject,
  type NodeObject,
  type ObjectChange,
  type PodObject,
  type ServiceObject,
} from '../../../../src/control/cluster.ts';
import { ResourceStore } from '../../../../src/control/resource-store.ts';
import { ResourceSchema } from '../../../../src/proto/discovery_pb.js';
import { AddressSchema, type Address, type Service, type Workload } from '../../../../src/proto/workload_pb.js';
import { collectingLogger, type LogLine } from '../../../support/control-plane/logs.ts';

export function pod(name: string, fields: Partial<PodObject> = {}): PodObject {
  return {
    ...{ kind: 'Pod', namespace: 'shop', name, uid: `uid-${name}`, node: 'node-a', serviceAccount: name, labels: { app: name } },
    ...{ annotations: {}, ips: ['10.0.0.1'], hostNetwork: false, phase: 'Running', ready: true, terminating: false, ports: [] },
    ...fields,
  };
}

export function service(name: string, fields: Partial<ServiceObject> = {}): ServiceObject {
  return {
    ...{ kind: 'Service', namespace: 'shop', name, labels: {}, annotations: {}, selector: { app: name }, clusterIps: ['10.96.0.1'] },
    ...{ headless: false, type: 'ClusterIP', ports: [{ name: '', port: 80, targetPort: 8080 }], publishNotReadyAddresses: false },
    ...{ ipFamilies: ['IPv4'], internalTrafficPolicy: 'Cluster' },
    ...fields,
  };
}

export function slice(name: string, fields: Partial<EndpointSliceObject> = {}): EndpointSliceObject {
  return {
    ...{ kind: 'EndpointSlice', namespace: 'shop', name, service: name, addressType: 'IPv4', ports: [{ name: '', port: 9000 }] },
    endpoints: [],
    ...fields,
  };
}

export function node(name: string, labels: Record<string, string> = {}): NodeObject {
  return { kind: 'Node', name, labels };
}

export function namespace(name: string, fields: Partial<NamespaceObject> = {}): NamespaceObject {
  return { kind: 'Namespace', name, labels: {}, annotations: {}, terminating: false, ...fields };
}

export function is(...objects: ClusterObject[]): ObjectChange[] {
  return objects.map((object) => ({ kind: object.kind, key: objectKey(object), object }));
}

export function gone(...objects: ClusterObject[]): ObjectChange[] {
  return objects.map((object) => ({ kind: object.kind, key: objectKey(object), object: undefined }));
}

export interface World {
  catalog: Catalog;
  store: ResourceStore;
  lines: LogLine[];
  /** names of every change since the last time it was emptied */
  told: { changed: string[]; removed: string[] };
}

export function world(options: Partial<CatalogOptions> = {}): World {
  const store = new ResourceStore();
  const { log, lines } = collectingLogger();
  const catalog = new Catalog({
    ...{ clusterId: 'c1', clusterDomain: 'cluster.local', trustDomain: 'cluster.local', network: '', store, log },
    ...options,
  });
  const told: World['told'] = { changed: [], removed: [] };
  store.onChange(({ changed, removed }) => {
    told.changed.push(...changed);
    told.removed.push(...removed);
  });
  return { catalog, store, lines, told };
}

/** A catalogue that is synced with these objects. */
export function synced(objects: ClusterObject[], options: Partial<CatalogOptions> = {}): World {
  const made = world(options);
  made.catalog.apply(is(...objects));
  made.catalog.synced();
  made.told.changed.length = 0;
  made.told.removed.length = 0;
  return made;
}

export function address(store: ResourceStore, name: string): Address | undefined {
  const resource = store.get('address', name);
  return resource === undefined ? undefined : fromBinary(AddressSchema, fromBinary(ResourceSchema, resource.bytes).resource!.value);
}

export function workload(store: ResourceStore, name: string): Workload | undefined {
  const type = address(store, name)?.type;
  return type?.case === 'workload' ? type.value : undefined;
}

export function podWorkload(store: ResourceStore, name: string): Workload | undefined {
  return workload(store, `c1//Pod/shop/${name}`);
}

export function serviceRecord(store: ResourceStore, name: string): Service | undefined {
  const type = address(store, `shop/${name}.shop.svc.cluster.local`)?.type;
  return type?.case === 'service' ? type.value : undefined;
}

/** Service port → target port, as a workload has them. */
export function portsOf(record: Workload | undefined, name: string): [number, number][] | undefined {
  return record?.services[`shop/${name}.shop.svc.cluster.local`]?.ports.map(({ servicePort, targetPort }) => [servicePort, targetPort]);
}

/** Name → version, sorted. */
export function versions(store: ResourceStore): [string, string][] {
  return [...store.all('address')].map(({ name, version }): [string, string] => [name, version]).sort();
}
