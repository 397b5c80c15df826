/** The Kubernetes API as this project uses it: objects by path, raw JSON, nothing kept that was not asked for. */

/** Fields of `metadata` that are ever read. */
export interface ObjectMeta {
  name: string;
  namespace?: string;
  uid?: string;
  resourceVersion?: string;
  generation?: number;
  creationTimestamp?: string;
  deletionTimestamp?: string;
  labels?: Record<string, string>;
  annotations?: Record<string, string>;
  ownerReferences?: { apiVersion: string; kind: string; name: string; uid: string; controller?: boolean }[];
}

export interface KubeObject {
  apiVersion?: string;
  kind?: string;
  metadata: ObjectMeta;
  [field: string]: unknown;
}

export interface WatchEvent {
  type: 'ADDED' | 'MODIFIED' | 'DELETED' | 'BOOKMARK';
  object: KubeObject;
}

/** A page of a list. */
export interface ObjectPage {
  items: KubeObject[];
  resourceVersion: string;
  /** token of the next page; undefined: this was the last */
  continue?: string;
}

/**
 * Paths are the API's own: "/api/v1/namespaces/shop/pods/web-1". Everything throws KubernetesError (code KUBERNETES, with the HTTP
 * status, 0 when no answer came).
 */
export interface KubeApi {
  /** @returns undefined when it does not exist (404) */
  get(path: string): Promise<KubeObject | undefined>;
  create(path: string, body: KubeObject): Promise<KubeObject>;
  /** With `metadata.resourceVersion` set a concurrent change is refused (status 409). */
  replace(path: string, body: KubeObject): Promise<KubeObject>;
  /** merge: JSON merge patch, apply: server-side apply with our field manager. @param deadlineMs for the answer, default 30 s */
  patch(path: string, body: unknown, kind: 'merge' | 'strategic' | 'json' | 'apply', deadlineMs?: number): Promise<KubeObject>;
  /** A missing object is fine. */
  remove(path: string): Promise<void>;
  /** @param signal gives up waiting for the answer; rejects then */
  list(path: string, query?: Record<string, string>, signal?: AbortSignal): Promise<ObjectPage>;
  /**
   * One watch connection, until it ends (returns, also when it breaks: who watches again learns whether the server is there), `signal`
   * aborts (returns), or the server refuses.
   * @param onOpen the server accepted; events follow
   * @throws KubernetesError, status 410 when `resourceVersion` is too old
   */
  watch(
    path: string,
    query: Record<string, string>,
    onEvent: (event: WatchEvent) => void,
    signal: AbortSignal,
    onOpen?: () => void,
  ): Promise<void>;
}
