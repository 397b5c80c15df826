/**
 * A cluster behind the Kubernetes API: each kind listed and watched, turned into the small records of control. Needs list and watch of
 * pods, namespaces, services, serviceaccounts, nodes, endpointslices, authorizationpolicies, peerauthentications and, by name, of the
 * definitions of these two.
 */
import type { Logger } from '../../base/log.ts';
import type { KubeApi, KubeObject } from '../../kubernetes/api.ts';
import { Reflector, type ReflectorEvents } from '../../kubernetes/reflector.ts';
import { Sharing } from '../../kubernetes/sharing.ts';
import type { Cluster, ClusterEvents, ClusterObject, ObjectKind, PolicyObject } from '../cluster.ts';
import { endpointSliceRecord } from './endpoint-slice.ts';
import { namespaceRecord, nodeRecord, serviceAccountRecord } from './plain.ts';
import { podRecord } from './pod.ts';
import { PolicyReflector } from './policies.ts';
import { serviceRecord } from './service.ts';

export interface KubernetesClusterOptions {
  api: KubeApi;
  log: Logger;
}

type PlainKind = Exclude<ObjectKind, PolicyObject['kind']>;

interface Collection {
  path: string;
  record: (object: KubeObject, sharing: Sharing) => ClusterObject;
}

const COLLECTIONS: Readonly<Record<PlainKind, Collection>> = {
  Namespace: { path: '/api/v1/namespaces', record: namespaceRecord },
  Node: { path: '/api/v1/nodes', record: nodeRecord },
  ServiceAccount: { path: '/api/v1/serviceaccounts', record: serviceAccountRecord },
  Service: { path: '/api/v1/services', record: serviceRecord },
  EndpointSlice: { path: '/apis/discovery.k8s.io/v1/endpointslices', record: endpointSliceRecord },
  Pod: { path: '/api/v1/pods', record: podRecord },
};

const POLICIES: readonly PolicyObject['kind'][] = ['AuthorizationPolicy', 'PeerAuthentication'];

export function createKubernetesCluster(options: KubernetesClusterOptions): Cluster {
  return { kind: 'kubernetes', watch: (events) => watchCluster(options, events) };
}

function watchCluster({ api, log }: KubernetesClusterOptions, events: ClusterEvents): { close(): void } {
  const sharing = new Sharing();
  const unsynced = new Set<ObjectKind>();
  const eventsOf = (kind: ObjectKind): ReflectorEvents<ClusterObject> => {
    unsynced.add(kind);
    return {
      onChanges: (changes) => events.onChanges(changes.map(({ key, value }) => ({ kind, key, object: value }))),
      onSynced: () => {
        unsynced.delete(kind);
        if (unsynced.size === 0) events.onSynced();
      },
      onError: (error) => events.onError(error),
    };
  };
  const reflectors = [
    ...Object.entries(COLLECTIONS).map(([kind, { path, record }]) => {
      const convert = (object: KubeObject): ClusterObject => record(object, sharing);
      return new Reflector<ClusterObject>({ api, path, convert, log }, eventsOf(kind as PlainKind));
    }),
    ...POLICIES.map((kind) => new PolicyReflector(kind, { api, log }, eventsOf(kind))),
  ];
  for (const reflector of reflectors) reflector.start();
  return {
    close() {
      for (const reflector of reflectors) reflector.close();
    },
  };
}
