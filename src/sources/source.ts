/**
 * The watch contract of every source (file, kubernetes; later xds): one validated snapshot after another, each whole.
 * A bad update is reported through `onError` with every fault named, and the last good state stays in use.
 */

/** On the API's mirror of a static pod: the uid that kubelet, and so the runtime and the cgroups, have for it. */
export const CONFIG_HASH_ANNOTATION = 'kubernetes.io/config.hash';

export interface PodRecord {
  uid: string;
  namespace: string;
  name: string;
  node: string;
  serviceAccount: string;
  labels: Record<string, string>;
  annotations: Record<string, string>;
  /** empty until the CNI chain gave it addresses; of an ended pod the last it had, which may be another's by now */
  ips: string[];
  /** path of its netns when the source knows it (file source), else undefined */
  netns?: string;
  /** ids of its containers without the runtime's name, where the source knows them: some cgroups name nothing else */
  containerIds?: string[];
  hostNetwork: boolean;
  phase: 'Pending' | 'Running' | 'Succeeded' | 'Failed';
}

export interface NamespaceRecord {
  name: string;
  labels: Record<string, string>;
  annotations: Record<string, string>;
}

export interface ServiceRecord {
  namespace: string;
  name: string;
  /** FQDN, "web.shop.svc.cluster.local" */
  hostname: string;
  selector: Record<string, string>;
  /** empty for a headless service */
  vips: string[];
  ports: { port: number; targetPort: number }[];
}

/** Nobody changes one that was delivered. A map of which nothing changed may be the very one of the snapshot before. */
export interface MeshSnapshot {
  trustDomain: string;
  namespaces: Map<string, NamespaceRecord>;
  /** by uid */
  pods: Map<string, PodRecord>;
  /** by "namespace/name" */
  services: Map<string, ServiceRecord>;
}

/** Something that people should see at the pod itself. */
export interface PodEvent {
  type: 'Normal' | 'Warning';
  /** one word, "EnrolmentFailed" */
  reason: string;
  /** a sentence */
  message: string;
}

export interface Source {
  readonly kind: 'file' | 'kubernetes' | 'xds';
  /** First snapshot arrives asynchronously; afterwards only changed ones. */
  watch(onSnapshot: (snapshot: MeshSnapshot) => void, onError: (error: Error) => void): { close(): void };
  /** True once a first good snapshot was delivered. */
  synced(): boolean;
  /** Sets or removes (undefined) an annotation of a pod of this node; durable when the promise resolves. */
  annotate(pod: { uid: string; namespace: string; name: string }, key: string, value: string | undefined): Promise<void>;
  /** What was annotated stays so: a change by somebody else is set back by the source, each time later than the time before. */
  readonly keepsAnnotations?: boolean;
  /**
   * Shows it at the pod, where the source has a place for that. Never throws and never waits: what comes too often is counted
   * together or dropped by the source.
   */
  event?(pod: { uid: string; namespace: string; name: string }, event: PodEvent): void;
  /** Nothing waits for its turn to be written any more; watches are closed by whoever opened them. */
  close?(): void;
}
