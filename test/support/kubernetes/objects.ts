/** Objects for tests, with what a scheduler and a kubelet would have filled in: each creator returns when the server has all of it. */
import type { KubeApi, KubeObject } from '../../../src/kubernetes/api.ts';
import { isKubernetes } from '../../../src/kubernetes/errors.ts';

export interface PodOptions {
  namespace: string;
  name: string;
  /** default "node1"; empty: not scheduled */
  node?: string;
  serviceAccount?: string;
  labels?: Record<string, string>;
  annotations?: Record<string, string>;
  /** default: none, phase Pending */
  ips?: readonly string[];
  /** default: Running with addresses, else Pending */
  phase?: string;
  /** condition Ready; default: it has addresses */
  ready?: boolean;
  hostNetwork?: boolean;
  ports?: readonly { name?: string; containerPort: number; protocol?: string }[];
  owner?: { apiVersion: string; kind: string; name: string };
}

export interface ServiceOptions {
  namespace: string;
  name: string;
  selector?: Record<string, string>;
  labels?: Record<string, string>;
  annotations?: Record<string, string>;
  ports?: readonly { name?: string; port: number; targetPort?: number | string; protocol?: string; appProtocol?: string }[];
  /** further fields of the spec: clusterIP "None", type, publishNotReadyAddresses */
  spec?: Record<string, unknown>;
}

export interface SliceOptions {
  namespace: string;
  name: string;
  service: string;
  addressType?: 'IPv4' | 'IPv6';
  ports: readonly { name?: string; port: number }[];
  endpoints: readonly { address: string; ready?: boolean; node?: string; pod?: string; podUid?: string }[];
}

/** Creators of objects over one API; paths and defaults once. */
export class Objects {
  readonly #api: KubeApi;

  constructor(api: KubeApi) {
    this.#api = api;
  }

  /** With its account `default`, which a controller makes a moment later, where there is one. */
  async namespace(name: string, labels: Record<string, string> = {}): Promise<KubeObject> {
    const made = await this.#api.create('/api/v1/namespaces', { metadata: { name, labels } });
    await this.serviceAccount(name, 'default').catch((error: unknown) => {
      if (!isKubernetes(error, 409)) throw error;
    });
    return made;
  }

  serviceAccount(namespace: string, name: string): Promise<KubeObject> {
    return this.#api.create(`/api/v1/namespaces/${namespace}/serviceaccounts`, { metadata: { name } });
  }

  /** @param labels zone and region, as a cloud would set them */
  node(name: string, labels: Record<string, string> = {}): Promise<KubeObject> {
    return this.#api.create('/api/v1/nodes', { metadata: { name, labels } });
  }

  /** The pod, and then its status as a kubelet would write it. */
  async pod(options: PodOptions): Promise<KubeObject> {
    const { namespace, name, node = 'node1', serviceAccount = 'default', labels = {}, annotations = {}, ports = [], owner } = options;
    const path = `/api/v1/namespaces/${namespace}/pods`;
    const made = await this.#api.create(path, {
      metadata: {
        name,
        labels,
        annotations,
        ...(owner === undefined ? {} : { ownerReferences: [{ ...owner, uid: '00000000-0000-0000-0000-000000000000', controller: true }] }),
      },
      spec: {
        serviceAccountName: serviceAccount,
        ...(node === '' ? {} : { nodeName: node }),
        ...(options.hostNetwork === true ? { hostNetwork: true } : {}),
        terminationGracePeriodSeconds: 0, // no kubelet is there to end it: deleted is gone
        containers: [{ name: 'main', image: 'none', ports: ports.map((port) => ({ ...port, ...hostPort(port, options) })) }],
      },
    });
    if (options.ips === undefined && options.phase === undefined && options.ready === undefined) return made;
    return this.podStatus(namespace, name, options);
  }

  podStatus(namespace: string, name: string, { ips = [], phase, ready }: Pick<PodOptions, 'ips' | 'phase' | 'ready'>): Promise<KubeObject> {
    const up = ips.length > 0;
    const status = {
      phase: phase ?? (up ? 'Running' : 'Pending'),
      podIP: ips[0] ?? null,
      podIPs: ips.map((ip) => ({ ip })),
      conditions: [{ type: 'Ready', status: (ready ?? up) ? 'True' : 'False' }],
    };
    return this.#api.patch(`/api/v1/namespaces/${namespace}/pods/${name}/status`, { status }, 'merge');
  }

  removePod(namespace: string, name: string): Promise<void> {
    return this.#api.remove(`/api/v1/namespaces/${namespace}/pods/${name}`);
  }

  service(options: ServiceOptions): Promise<KubeObject> {
    const { namespace, name, selector, labels = {}, annotations = {}, ports = [{ port: 80 }], spec = {} } = options;
    return this.#api.create(`/api/v1/namespaces/${namespace}/services`, {
      metadata: { name, labels, annotations },
      spec: { ...(selector === undefined ? {} : { selector }), ports, ...spec },
    });
  }

  endpointSlice({ namespace, name, service, addressType = 'IPv4', ports, endpoints }: SliceOptions): Promise<KubeObject> {
    return this.#api.create(`/apis/discovery.k8s.io/v1/namespaces/${namespace}/endpointslices`, {
      metadata: { name, labels: { 'kubernetes.io/service-name': service } },
      addressType,
      ports: ports.map(({ name: portName = '', port }) => ({ name: portName, port, protocol: 'TCP' })),
      endpoints: endpoints.map(({ address, ready = true, node, pod, podUid }) => ({
        addresses: [address],
        conditions: { ready, serving: ready, terminating: false },
        ...(node === undefined ? {} : { nodeName: node }),
        ...(pod === undefined ? {} : { targetRef: { kind: 'Pod', namespace, name: pod, uid: podUid ?? '' } }),
      })),
    });
  }
}

/** On the host's network the server wants host ports, and the same. */
function hostPort(port: { containerPort: number }, { hostNetwork }: PodOptions): { hostPort?: number } {
  return hostNetwork === true ? { hostPort: port.containerPort } : {};
}
