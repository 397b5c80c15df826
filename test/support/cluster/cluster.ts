/**
 * A real Kubernetes on this machine: control plane, one or two nodes with containerd and kubelet, real pods. Everything runs in
 * namespaces and ends with the test process. Several at once do not meet.
 */
import { execFile } from 'node:child_process';
import { mkdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { KubeApi, KubeObject } from '../../../src/kubernetes/api.ts';
import { connectKubernetes } from '../../../src/kubernetes/client.ts';
import { kubeBinary } from '../kubernetes/binary.ts';
import { Objects } from '../kubernetes/objects.ts';
import { until } from '../kubernetes/until.ts';
import { Applier, parseObjects } from './apply.ts';
import { removeCgroup } from './cgroups.ts';
import { ControlPlane } from './control-plane.ts';
import { corednsObjects } from './coredns.ts';
import { buildPause, busyboxImage, corednsImage, pauseImage } from './images.ts';
import { filterBridges } from './network.ts';
import { ClusterNode } from './node.ts';
import { clusterName, deviceName, sweep } from './sweep.ts';

const READY_MS = 60_000;

export interface ClusterOptions {
  /** default 1 */
  nodes?: 1 | 2;
  /** IPv6 beside IPv4; default false */
  dualStack?: boolean;
  /** default iptables */
  proxyMode?: 'iptables' | 'nftables';
  /** default 2; 1.6 is the distribution's, see `debianContainerdVersion` */
  containerd?: '2' | '1.6';
  /** of the nodes' network configuration; default 1.1.0 with containerd 2, else 1.0.0 */
  cniVersion?: '1.1.0' | '1.0.0';
  /** the cluster's DNS; default false */
  coredns?: boolean;
  /** further flags of kube-apiserver */
  apiServerFlags?: readonly string[];
}

export class Cluster {
  /** of its cgroup and directory: "cvt-k4711-1" */
  readonly name: string;
  /** of an administrator */
  readonly api: KubeApi;
  readonly objects: Objects;
  /** path; of an administrator, from this machine */
  readonly kubeconfig: string;
  /** as seen from this machine */
  readonly url: string;
  /** the network device on this machine that leads to it */
  readonly device: string;
  readonly nodes: readonly ClusterNode[];
  /** data and logs, gone after `close()` */
  readonly dir: string;
  readonly #controlPlane: ControlPlane;
  readonly #applier: Applier;

  private constructor(name: string, dir: string, parts: { controlPlane: ControlPlane; nodes: readonly ClusterNode[]; kubeconfig: string }) {
    this.name = name;
    this.dir = dir;
    this.#controlPlane = parts.controlPlane;
    this.nodes = parts.nodes;
    this.kubeconfig = parts.kubeconfig;
    this.url = parts.controlPlane.url;
    this.device = deviceName(name);
    this.api = connectKubernetes({ kubeconfig: parts.kubeconfig, fieldManager: 'culvert-test' });
    this.objects = new Objects(this.api);
    this.#applier = new Applier(this.api);
  }

  static async start(options: ClusterOptions): Promise<Cluster> {
    await sweep();
    filterBridges();
    const { nodes: count = 1, dualStack = false, proxyMode = 'iptables', containerd = '2', coredns = false } = options;
    const { cniVersion = containerd === '2' ? '1.1.0' : '1.0.0', apiServerFlags = [] } = options;
    const name = clusterName();
    const dir = join(tmpdir(), name);
    mkdirSync(dir, { recursive: true });
    const started: { close(): Promise<void> }[] = [];
    const kept = async <T extends { close(): Promise<void> }>(starting: Promise<T>): Promise<T> => {
      const part = await starting;
      started.push(part);
      return part;
    };
    const boot = async (): Promise<Cluster> => {
      const pause = await buildPause(dir);
      const images = Promise.all([pauseImage(dir, pause), busyboxImage(dir), ...(coredns ? [corednsImage(dir)] : [])]);
      const startNode = async (index: number): Promise<ClusterNode> => {
        const common = { index, count, dir: join(dir, `node${index}`), cgroup: name, pause };
        const node = await kept(ClusterNode.start({ ...common, dualStack, proxyMode, containerd, cniVersion }));
        for (const image of await images) await node.importImage(image);
        return node;
      };
      const [controlPlane, ...nodes] = await allSettled(
        kept(ControlPlane.start({ dir: join(dir, 'control-plane'), device: deviceName(name), pause, dualStack, apiServerFlags })),
        ...Array.from({ length: count }, (_, position) => startNode(position + 1)),
      );
      await controlPlane.ready();
      controlPlane.startOthers();
      const kubeconfig = await controlPlane.pki.kubeconfig('admin', 'O=system:masters,CN=admin', controlPlane.url);
      const cluster = new Cluster(name, dir, { controlPlane, nodes, kubeconfig });
      await Promise.all(nodes.map((node) => node.join(controlPlane)));
      await Promise.all(nodes.map((node) => cluster.nodeReady(node)));
      await until('the account of namespace default', async () => (await cluster.api.get(DEFAULT_ACCOUNT)) !== undefined);
      if (coredns) {
        await cluster.apply(corednsObjects());
        await cluster.rolledOut('deployment', 'kube-system', 'coredns');
      }
      return cluster;
    };
    try {
      return await boot();
    } catch (error) {
      await dispose(started, name, dir);
      throw error;
    }
  }

  /** @returns stdout @throws with stderr when it does not exit with 0 */
  kubectl(...args: string[]): Promise<string> {
    return this.#kubectl(args);
  }

  /** @param stdin for `apply -f -`, `exec -i` */
  kubectlWith(stdin: string, ...args: string[]): Promise<string> {
    return this.#kubectl(args, stdin);
  }

  /** Server-side apply, one after the other. @param what YAML, or objects @returns them as the server has them now */
  apply(what: string | readonly KubeObject[]): Promise<KubeObject[]> {
    return this.#applier.apply(typeof what === 'string' ? parseObjects(what) : what);
  }

  /** Removes what `apply` put there; the server ends it in its own time. */
  async remove(what: string | readonly KubeObject[]): Promise<void> {
    const objects = typeof what === 'string' ? parseObjects(what) : what;
    for (const object of objects.toReversed()) await this.api.remove(await this.#applier.pathOf(object));
  }

  /** Waits for the Ready condition. @throws with the pod's status when it does not come */
  async podReady(namespace: string, name: string, ms = READY_MS): Promise<KubeObject> {
    const path = `/api/v1/namespaces/${namespace}/pods/${name}`;
    let pod: KubeObject | undefined;
    try {
      await until(`pod ${namespace}/${name} to be ready`, async () => isReady((pod = await this.api.get(path))), ms);
    } catch (error) {
      throw new Error(`${(error as Error).message}; its status: ${JSON.stringify(pod?.['status'])}`, { cause: error });
    }
    return pod!;
  }

  async podGone(namespace: string, name: string, ms = READY_MS): Promise<void> {
    const path = `/api/v1/namespaces/${namespace}/pods/${name}`;
    await until(`pod ${namespace}/${name} to be gone`, async () => (await this.api.get(path)) === undefined, ms);
  }

  /** Waits until every pod of it is of the newest kind and ready. */
  async rolledOut(kind: 'deployment' | 'daemonset' | 'statefulset', namespace: string, name: string, ms = READY_MS): Promise<void> {
    const path = `/apis/apps/v1/namespaces/${namespace}/${kind}s/${name}`;
    let workload: KubeObject | undefined;
    try {
      await until(`${kind} ${namespace}/${name} to be rolled out`, async () => isRolledOut((workload = await this.api.get(path))), ms);
    } catch (error) {
      throw new Error(`${(error as Error).message}; its status: ${JSON.stringify(workload?.['status'])}`, { cause: error });
    }
  }

  /** @param ready false: waits until it is not */
  async nodeReady(node: ClusterNode, ready = true, ms = READY_MS): Promise<void> {
    const ask = async (): Promise<boolean> => {
      if (ready) node.assertRunning();
      return isReady(await this.api.get(`/api/v1/nodes/${node.name}`)) === ready;
    };
    try {
      await until(`${node.name} to be ${ready ? 'ready' : 'not ready'}`, ask, ms);
    } catch (error) {
      const object = await this.api.get(`/api/v1/nodes/${node.name}`);
      throw new Error(`${(error as Error).message}; its status: ${JSON.stringify(object?.['status'])}`, { cause: error });
    }
  }

  /** @param archive of `imageOf`; all nodes get it */
  async importImage(archive: string): Promise<void> {
    await Promise.all(this.nodes.map((node) => node.importImage(archive)));
  }

  /** etcd keeps the objects, nodes and pods go on. */
  killApiServer(): Promise<void> {
    return this.#controlPlane.killApiServer();
  }

  /** Returns when it is ready. */
  restartApiServer(): Promise<void> {
    return this.#controlPlane.restartApiServer();
  }

  /** of all components, by name, for measuring */
  pids(): Record<string, number> {
    return Object.fromEntries([this.#controlPlane, ...this.nodes].flatMap((part) => Object.entries(part.pids())));
  }

  /** Ends everything, and returns when nothing is left. */
  close(): Promise<void> {
    return dispose([...this.nodes, this.#controlPlane], this.name, this.dir);
  }

  #kubectl(args: readonly string[], stdin?: string): Promise<string> {
    return new Promise((resolve, reject) => {
      const argv = ['kubectl', '--kubeconfig', this.kubeconfig, ...args];
      const child = execFile(kubeBinary(), argv, { maxBuffer: 1 << 26 }, (error, stdout, stderr) => {
        if (error === null) resolve(stdout);
        else reject(new Error(`kubectl ${args.join(' ')}: ${stderr.trim() || error.message}`));
      });
      child.stdin?.on('error', () => undefined); // it may end without reading
      child.stdin?.end(stdin);
    });
  }
}

const DEFAULT_ACCOUNT = '/api/v1/namespaces/default/serviceaccounts/default';

/** Returns when all nodes are ready. */
export function startCluster(options: ClusterOptions = {}): Promise<Cluster> {
  return Cluster.start(options);
}

/** As Promise.all, but after a failure too it returns only when all have come to an end: none may start what nobody closes. */
async function allSettled<T extends readonly unknown[]>(...promises: { [K in keyof T]: Promise<T[K]> }): Promise<T> {
  await Promise.allSettled(promises);
  return Promise.all(promises);
}

async function dispose(parts: readonly { close(): Promise<void> }[], cgroup: string, dir: string): Promise<void> {
  await Promise.all(parts.map((part) => part.close()));
  await removeCgroup(cgroup);
  rmSync(dir, { recursive: true, force: true });
}

function isReady(object: KubeObject | undefined): boolean {
  const { conditions } = (object?.['status'] ?? {}) as { conditions?: { type: string; status: string }[] };
  return conditions?.some(({ type, status }) => type === 'Ready' && status === 'True') ?? false;
}

function isRolledOut(workload: KubeObject | undefined): boolean {
  const { replicas } = (workload?.['spec'] ?? {}) as { replicas?: number };
  const status = (workload?.['status'] ?? {}) as Record<string, number | undefined>;
  if (status['observedGeneration'] !== workload?.metadata.generation) return false;
  // A DaemonSet counts otherwise.
  const { desiredNumberScheduled: desired = replicas ?? 1, updatedReplicas, updatedNumberScheduled = updatedReplicas ?? 0 } = status;
  const { readyReplicas, numberReady = readyReplicas ?? 0, replicas: all = desired } = status;
  return updatedNumberScheduled >= desired && numberReady >= desired && all <= desired;
}
