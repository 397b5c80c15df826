/**
 * Pods and namespaces behind the API's list, watch and patch, in this process, with a test's hand on when each watch brings what: for
 * orders of events that a real server cannot be asked for.
 */
import type { KubeApi, KubeObject, ObjectPage, WatchEvent } from '../../../src/kubernetes/api.ts';
import { KubernetesError } from '../../../src/kubernetes/errors.ts';
import { isRecord } from '../../../src/kubernetes/json.ts';

export type Collection = 'pods' | 'namespaces';

interface Connection {
  collection: Collection;
  /** what it has brought */
  version: number;
  onEvent: (event: WatchEvent) => void;
  end: () => void;
}

export class ModelCluster {
  readonly #objects = { pods: new Map<string, KubeObject>(), namespaces: new Map<string, KubeObject>() };
  /** in order */
  readonly #history: { collection: Collection; version: number; event: WatchEvent }[] = [];
  readonly #connections = new Set<Connection>();
  #version = 1;
  #forgotten = 0;

  readonly api: Pick<KubeApi, 'list' | 'watch' | 'patch'> = {
    list: (path) => Promise.resolve(this.#list(collectionOf(path))),
    watch: (path, query, onEvent, signal, onOpen) => {
      const collection = collectionOf(path);
      const version = Number(query['resourceVersion']);
      if (version < this.#forgotten) return Promise.reject(new KubernetesError('watch: too old', { status: 410, reason: 'Expired' }));
      onOpen?.();
      return new Promise((resolve) => {
        const connection: Connection = { collection, version, onEvent, end: () => resolve(undefined) };
        this.#connections.add(connection);
        signal.addEventListener('abort', resolve);
      }).then(() => undefined);
    },
    patch: (path, body) => {
      const [, namespace = '', name = ''] = /namespaces\/([^/]+)\/pods\/([^/]+)\/status$/.exec(path) ?? [];
      const { uid, annotations } = (body as { metadata: { uid: string; annotations: Record<string, string | null> } }).metadata;
      const pod = this.#objects.pods.get(`${namespace}/${name}`);
      if (pod === undefined) return Promise.reject(new KubernetesError('patch: not found', { status: 404, reason: 'NotFound' }));
      if (pod.metadata.uid !== uid) {
        const refusal = { status: 422, reason: 'Invalid', fields: ['metadata.uid'] };
        return Promise.reject(new KubernetesError('patch: field is immutable', refusal));
      }
      const merged = Object.entries({ ...pod.metadata.annotations, ...annotations }).filter(([, value]) => value !== null);
      return Promise.resolve(
        this.put('pods', { ...pod, metadata: { ...pod.metadata, annotations: Object.fromEntries(merged) as Record<string, string> } }),
      );
    },
  };

  get(collection: Collection, key: string): KubeObject | undefined {
    return this.#objects[collection].get(key);
  }

  all(collection: Collection): KubeObject[] {
    return [...this.#objects[collection].values()];
  }

  /** Made or changed. */
  put(collection: Collection, object: KubeObject): KubeObject {
    const key = keyOf(object);
    const type = this.#objects[collection].has(key) ? 'MODIFIED' : 'ADDED';
    const stored = { ...object, metadata: { ...object.metadata, resourceVersion: String(++this.#version) } };
    this.#objects[collection].set(key, stored);
    this.#history.push({ collection, version: this.#version, event: { type, object: stored } });
    return stored;
  }

  remove(collection: Collection, key: string): void {
    const object = this.#objects[collection].get(key);
    if (object === undefined) return;
    this.#objects[collection].delete(key);
    const last = { ...object, metadata: { ...object.metadata, resourceVersion: String(++this.#version) } };
    this.#history.push({ collection, version: this.#version, event: { type: 'DELETED', object: last } });
  }

  /** Each watch of a collection brings its next event. @returns false when none had any */
  step(collection: Collection): boolean {
    let stepped = false;
    for (const connection of this.#connections) {
      if (connection.collection !== collection) continue;
      const next = this.#history.find((entry) => entry.collection === collection && entry.version > connection.version);
      if (next === undefined) continue;
      connection.version = next.version;
      connection.onEvent(next.event);
      stepped = true;
    }
    return stepped;
  }

  /** Ends every watch of a collection, as a network does. */
  cut(collection: Collection): void {
    for (const connection of [...this.#connections]) {
      if (connection.collection !== collection) continue;
      this.#connections.delete(connection);
      connection.end();
    }
  }

  /** Who resumes from a version up to now is told 410. */
  forget(): void {
    this.#forgotten = ++this.#version;
  }

  watching(collection: Collection): boolean {
    return [...this.#connections].some((connection) => connection.collection === collection);
  }

  #list(collection: Collection): ObjectPage {
    return { items: this.all(collection), resourceVersion: String(this.#version) };
  }
}

function collectionOf(path: string): Collection {
  return path.endsWith('/pods') ? 'pods' : 'namespaces';
}

function keyOf({ metadata: { namespace, name } }: KubeObject): string {
  return namespace === undefined ? name : `${namespace}/${name}`;
}

/** What kubelet would see of a pod, as far as a source reads it. */
export function podObject(pod: {
  namespace: string;
  name: string;
  uid: string;
  ips?: readonly string[];
  phase?: string;
  labels?: Record<string, string>;
  annotations?: Record<string, string>;
}): KubeObject {
  const { namespace, name, uid, ips = [], phase = 'Pending', labels = {}, annotations = {} } = pod;
  return {
    metadata: { namespace, name, uid, labels, annotations },
    spec: { nodeName: 'node1', serviceAccountName: 'web' },
    status: { phase, podIPs: ips.map((ip) => ({ ip })) },
  };
}

/** The object with other fields of status. */
export function withStatus(object: KubeObject, status: object): KubeObject {
  return { ...object, status: { ...(isRecord(object['status']) ? object['status'] : {}), ...status } };
}
