/** A node: containerd, kubelet and kube-proxy in an enclosure, each in a cgroup of its own. */
import { copyFileSync, cpSync, mkdirSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { stringify } from 'yaml';
import { kubeBinary } from '../kubernetes/binary.ts';
import { Component } from '../kubernetes/component.ts';
import { until } from '../kubernetes/until.ts';
import { cgroup2Path, makeCgroup } from './cgroups.ts';
import { conflist, CONTAINERD_SOCKET, containerdConfig, kubeletConfig } from './config.ts';
import { FORWARDING, type ControlPlane } from './control-plane.ts';
import { Enclosure, type ExecOptions, type ExecResult } from './enclosure.ts';
import { API_PORT, CONTROL_PLANE, nodeIps, rangeOf, wireNode } from './network.ts';
import { nodeFiles } from './node-files.ts';
import { containerdDirectory, tool } from './tools.ts';

export const NODE_COMPONENTS = ['containerd', 'kubelet', 'kube-proxy'] as const;
export type NodeComponent = (typeof NODE_COMPONENTS)[number];

const PLUGINS = ['bridge', 'host-local', 'loopback', 'portmap'];
/** Of the node, seen from inside it. */
const KUBERNETES_DIR = '/etc/kubernetes';
const CONTAINERD_CONFIG = `${KUBERNETES_DIR}/containerd.toml`;

export interface NodeOptions {
  /** from 1 */
  index: number;
  /** how many nodes there are */
  count: number;
  dir: string;
  /** of all nodes of the cluster, below every hierarchy's root: "cvt-k1" */
  cgroup: string;
  pause: string;
  dualStack: boolean;
  proxyMode: 'iptables' | 'nftables';
  containerd: '2' | '1.6';
  cniVersion: '1.1.0' | '1.0.0';
}

export interface Sandbox {
  /** CNI_CONTAINERID */
  id: string;
  /** of its pause process, as the node counts: `node.run(['kill', '-9', …])` */
  pid: number;
  /** path of its network namespace, from outside */
  netns: string;
}

export class ClusterNode {
  readonly name: string;
  /** IPv4, then IPv6 with dual stack */
  readonly ips: readonly string[];
  readonly dir: string;
  /** of its pods and components, below the root of every hierarchy: "cvt-k1/node1" */
  readonly cgroup: string;
  readonly #options: NodeOptions;
  readonly #enclosure: Enclosure;
  readonly #components: Record<NodeComponent, Component>;

  private constructor(options: NodeOptions, name: string, enclosure: Enclosure) {
    this.#options = options;
    this.name = name;
    this.ips = nodeIps(options.index, options.dualStack);
    this.dir = options.dir;
    this.cgroup = nodeCgroup(options, name);
    this.#enclosure = enclosure;
    this.#components = {
      containerd: this.#component('containerd', ['containerd', '--config', CONTAINERD_CONFIG]),
      kubelet: this.#component('kubelet', [
        ...[kubeBinary(), 'kubelet', '--config', `${KUBERNETES_DIR}/kubelet.yaml`, '--kubeconfig', `${KUBERNETES_DIR}/kubelet.kubeconfig`],
        ...['--root-dir', '/var/lib/kubelet', '--hostname-override', name, '--node-ip', this.ips.join(','), '-v', '2'],
      ]),
      'kube-proxy': this.#component('kube-proxy', [kubeBinary(), 'kube-proxy', '--config', `${KUBERNETES_DIR}/kube-proxy.yaml`]),
    };
  }

  /** Its namespaces with containerd running; nothing of Kubernetes yet. */
  static async start(options: NodeOptions): Promise<ClusterNode> {
    const { index, dir, dualStack, cniVersion } = options;
    const name = `node${index}`;
    mkdirSync(dir, { recursive: true });
    for (const component of NODE_COMPONENTS) makeCgroup(componentCgroup(options, name, component));
    const enclosure = await Enclosure.start({
      name,
      dir,
      setup: [...nodeFiles(dir), ...FORWARDING],
      program: options.pause,
      path: [containerdDirectory(options.containerd), tool('cni')],
    });
    const node = new ClusterNode(options, name, enclosure);
    try {
      for (const plugin of PLUGINS) cpSync(tool(`cni/${plugin}`), node.path(`/opt/cni/bin/${plugin}`));
      writeFileSync(node.path('/etc/cni/net.d/10-pods.conflist'), conflist(index, cniVersion, dualStack));
      writeFileSync(node.path(CONTAINERD_CONFIG), containerdConfig(options.containerd));
      await node.start('containerd');
    } catch (error) {
      await enclosure.close();
      throw error;
    }
    return node;
  }

  /** Joins the fabric, and starts kubelet and kube-proxy; the API server must be ready. */
  async join({ enclosure, pki }: ControlPlane): Promise<void> {
    const { name, ips } = this;
    const { index, count, dualStack, proxyMode } = this.#options;
    await wireNode(this.#enclosure, enclosure, { index, count, dualStack });
    const put = (from: string, file: string): void => copyFileSync(from, this.path(`${KUBERNETES_DIR}/${file}`));
    const server = `https://${CONTROL_PLANE}:${API_PORT}`;
    const serving = await pki.serving(`${name}-kubelet`, ips, [name]);
    put(await pki.kubeconfig(name, `O=system:nodes,CN=system:node:${name}`, server), 'kubelet.kubeconfig');
    put(await pki.kubeconfig(`${name}-proxy`, 'CN=system:kube-proxy', server), 'kube-proxy.kubeconfig');
    put(pki.ca, 'ca.crt');
    put(serving.certificate, 'kubelet.crt');
    put(serving.key, 'kubelet.key');
    writeFileSync(
      this.path(`${KUBERNETES_DIR}/kubelet.yaml`),
      kubeletConfig({
        cgroupRoot: `/${this.cgroup}`,
        certificate: `${KUBERNETES_DIR}/kubelet.crt`,
        key: `${KUBERNETES_DIR}/kubelet.key`,
        clientCa: `${KUBERNETES_DIR}/ca.crt`,
      }),
    );
    writeFileSync(
      this.path(`${KUBERNETES_DIR}/kube-proxy.yaml`),
      stringify({
        apiVersion: 'kubeproxy.config.k8s.io/v1alpha1',
        kind: 'KubeProxyConfiguration',
        clientConnection: { kubeconfig: `${KUBERNETES_DIR}/kube-proxy.kubeconfig` },
        hostnameOverride: name,
        mode: proxyMode,
        clusterCIDR: rangeOf('pods', dualStack),
        // Zero leaves alone what only the machine itself may set.
        conntrack: { maxPerCore: 0, min: 0, tcpEstablishedTimeout: '0s', tcpCloseWaitTimeout: '0s' },
      }),
    );
    await this.start('kubelet');
    await this.start('kube-proxy');
  }

  /** IPv4 */
  get ip(): string {
    return this.ips[0]!;
  }

  /** of its first process, as this machine counts */
  get pid(): number {
    return this.#enclosure.pid;
  }

  /** path */
  get netns(): string {
    return this.#enclosure.netns;
  }

  /** Path of a component's cgroup in v2, on this machine and in the node alike. */
  componentCgroup(component: NodeComponent): string {
    return cgroup2Path(componentCgroup(this.#options, this.name, component));
  }

  /** Where a file of the node is seen from outside: "/etc/cni/net.d" */
  path(inside: string): string {
    return this.#enclosure.path(inside);
  }

  /** Runs a command in the node's namespaces; this tree's and the machine's executables are where they are. */
  exec(argv: readonly string[], options?: ExecOptions): Promise<ExecResult> {
    return this.#enclosure.exec(argv, options);
  }

  /** As `exec`. @returns stdout @throws when it does not exit with 0 */
  run(argv: readonly string[], options?: ExecOptions): Promise<string> {
    return this.#enclosure.run(argv, options);
  }

  /** containerd's client. @returns stdout */
  ctr(...args: string[]): Promise<string> {
    return this.run(['ctr', '--address', CONTAINERD_SOCKET, '-n', 'k8s.io', ...args]);
  }

  /** What holds the namespaces of a pod that runs here. @throws when there is none, or not yet */
  async sandbox(namespace: string, pod: string): Promise<Sandbox> {
    const labels = { 'io.kubernetes.pod.namespace': namespace, 'io.kubernetes.pod.name': pod, 'io.cri-containerd.kind': 'sandbox' };
    const filter = Object.entries(labels).map(([key, value]) => `labels."${key}"==${value}`);
    const ids = (await this.ctr('containers', 'list', '--quiet', filter.join(','))).trim().split('\n');
    const tasks = (await this.ctr('tasks', 'list')).split('\n').map((line) => line.trim().split(/ +/));
    const running = tasks.find(([id, , status]) => id !== undefined && ids.includes(id) && status === 'RUNNING');
    if (running === undefined) throw new Error(`pod ${namespace}/${pod} has no sandbox on ${this.name}`);
    const pid = Number(running[1]);
    return { id: running[0]!, pid, netns: this.path(`/proc/${pid}/ns/net`) };
  }

  async importImage(archive: string): Promise<void> {
    await this.ctr('images', 'import', archive);
  }

  /** Returns when it runs; containerd: when it answers. */
  async start(component: NodeComponent): Promise<void> {
    const process = this.#components[component];
    process.start();
    await until(`${component} of ${this.name} to run`, () => {
      if (!process.running) throw new Error(`${component} of ${this.name} ended:\n${process.tail()}`);
      return component === 'containerd' ? answers(this.path(CONTAINERD_SOCKET)) : process.pid !== 0;
    });
  }

  /** SIGTERM; returns when it has ended. Pods go on. */
  stop(component: NodeComponent): Promise<void> {
    return this.#components[component].stop();
  }

  /** SIGKILL; returns when it has ended. Pods go on. */
  kill(component: NodeComponent): Promise<void> {
    return this.#components[component].kill();
  }

  /** @throws with the end of its log, when one that was started has ended by itself */
  assertRunning(): void {
    for (const component of Object.values(this.#components))
      if (component.failed) throw new Error(`${component.name} of ${this.name} ended:\n${component.tail()}`);
  }

  /** Path of its log. */
  log(component: NodeComponent): string {
    return this.#components[component].log;
  }

  /** by name, for measuring */
  pids(): Record<string, number> {
    return Object.fromEntries(Object.values(this.#components).map(({ name, pid }) => [`${this.name} ${name}`, pid]));
  }

  /** Kills everything on it, pods too. */
  close(): Promise<void> {
    return this.#enclosure.close();
  }

  #component(name: NodeComponent, command: readonly string[]): Component {
    const procs = join(this.componentCgroup(name), 'cgroup.procs');
    // Before anything of the program runs, so that no socket of it is made outside its cgroup.
    const inCgroup = ['sh', '-c', 'echo 0 >"$0" && exec "$@"', procs, ...command];
    return new Component(name, inCgroup, join(this.dir, `${name}.log`), { enter: this.#enclosure.enter, env: this.#enclosure.env });
  }
}

function nodeCgroup({ cgroup }: NodeOptions, name: string): string {
  return `${cgroup}/${name}`;
}

function componentCgroup(options: NodeOptions, name: string, component: NodeComponent): string {
  return `${nodeCgroup(options, name)}/system/${component}`;
}

/** Does somebody accept connections there? */
function answers(socket: string): Promise<boolean> {
  return new Promise((resolve) => {
    const connection = connect(socket);
    connection.on('connect', () => {
      connection.destroy();
      resolve(true);
    });
    connection.on('error', () => resolve(false));
  });
}
