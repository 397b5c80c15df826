/** Our chart on a cluster, by helm itself, from the image that deploy/rootfs.sh makes. */
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { PodStatus } from '../../../src/agent/api.ts';
import { CHART, helm, type Values } from '../helm.ts';
import type { Cluster } from './cluster.ts';
import { imageOf } from './image.ts';

const run = promisify(execFile);
const ROOTFS = join(import.meta.dirname, '../../../deploy/rootfs.sh');

export const MESH_NAMESPACE = 'culvert-system';
export const MESH_IMAGE = 'culvert.test/culvert:1';

/** A line of a tunnel's access log, with ztunnel's names. */
export interface Access {
  /** RFC 3339 */
  time: string;
  direction: 'inbound' | 'outbound';
  'src.workload'?: string;
  /** proven by mTLS */
  'src.identity'?: string;
  'dst.workload'?: string;
  /** the next hop */
  'dst.addr': string;
  /** the target inside HBONE */
  'dst.hbone_addr'?: string;
  error?: string;
}

export class Mesh {
  readonly #cluster: Cluster;

  private constructor(cluster: Cluster) {
    this.#cluster = cluster;
  }

  /** The image on all nodes, nothing installed yet: for who installs late. */
  static async prepare(cluster: Cluster): Promise<Mesh> {
    const root = join(cluster.dir, 'culvert-root');
    await run(ROOTFS, [root]);
    await cluster.importImage(await imageOf(root, MESH_IMAGE, { entrypoint: ['culvert'] }, join(cluster.dir, 'culvert.tar')));
    return new Mesh(cluster);
  }

  /** Resolves when every part of it is ready. @param values over those of a test's cluster */
  async install(values: Values = {}): Promise<void> {
    await this.#helm('install', values);
    await this.ready();
  }

  /** Resolves when every part has been replaced where it had to be. */
  async upgrade(values: Values = {}): Promise<void> {
    await this.#helm('upgrade', values);
    await this.ready();
  }

  async uninstall(): Promise<void> {
    const { code, stderr } = await helm(['uninstall', 'culvert', '--namespace', MESH_NAMESPACE], { kubeconfig: this.#cluster.kubeconfig });
    if (code !== 0) throw new Error(`helm uninstall: ${stderr}`);
  }

  async ready(): Promise<void> {
    await this.#cluster.rolledOut('deployment', MESH_NAMESPACE, 'culvert-control');
    for (const name of ['ztunnel', 'culvert-node']) await this.#cluster.rolledOut('daemonset', MESH_NAMESPACE, name);
  }

  /** Replaces the pods of one part, as an upgrade does. */
  async restart(kind: 'daemonset' | 'deployment', name: string): Promise<void> {
    await this.#cluster.kubectl('-n', MESH_NAMESPACE, 'rollout', 'restart', `${kind}/${name}`);
    await this.#cluster.rolledOut(kind, MESH_NAMESPACE, name);
  }

  /** `culvert ARGS -o json` in the agent's pod of a node. */
  async culvert(node: string, ...args: string[]): Promise<unknown> {
    const pod = await this.podOn(node, 'culvert-node');
    return JSON.parse(await this.#cluster.kubectl('-n', MESH_NAMESPACE, 'exec', pod, '--', 'culvert', ...args, '-o', 'json'));
  }

  /** @param app "culvert-node", "ztunnel" @returns the name of its running pod on a node */
  async podOn(node: string, app: string): Promise<string> {
    const { items } = await this.#cluster.api.list(`/api/v1/namespaces/${MESH_NAMESPACE}/pods`, {
      labelSelector: `app=${app}`,
      fieldSelector: `spec.nodeName=${node}`,
    });
    const running = items.filter(({ metadata }) => metadata.deletionTimestamp === undefined);
    if (running.length !== 1) throw new Error(`${app} on ${node}: ${running.length} pods`);
    return running[0]!.metadata.name;
  }

  logs(pod: string): Promise<string> {
    return this.#cluster.kubectl('-n', MESH_NAMESPACE, 'logs', pod, '--tail=-1');
  }

  /** What a node's tunnel has written of connections that have ended. */
  async accesses(node: string): Promise<Access[]> {
    const lines = (await this.logs(await this.podOn(node, 'ztunnel'))).split('\n');
    return lines.filter((line) => line.includes('"scope":"access"')).map((line) => JSON.parse(line) as Access);
  }

  /** @param pod "namespace/name", of that node */
  async pod(node: string, pod: string): Promise<PodStatus> {
    const [status] = (await this.culvert(node, 'pods', pod)) as PodStatus[];
    return status!;
  }

  async #helm(verb: 'install' | 'upgrade', values: Values): Promise<void> {
    const [name, tag] = MESH_IMAGE.split(':');
    const args = [verb, 'culvert', CHART, '--namespace', MESH_NAMESPACE, '--create-namespace'];
    const all = { image: { name, tag }, imagePullPolicy: 'Never', control: { replicas: 1 }, ...values };
    const { code, stderr } = await helm(args, { kubeconfig: this.#cluster.kubeconfig, values: all });
    if (code !== 0) throw new Error(`helm ${verb}: ${stderr}`);
  }
}
