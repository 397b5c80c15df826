/** A node with a real agent process, a minimal tunnel process and pods; the mesh is a file, as in the lab, unless flags say otherwise. */
import { execFileSync, spawn, type ChildProcess } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { request as httpRequest } from 'node:http';
import { join } from 'node:path';
import type { AdminRequest, AdminResponse, AgentStatus, PodStatus } from '../../../src/agent/api.ts';
import { native } from '../../../src/sys/native.ts';
import { childrenOf } from '../../support/kubernetes/component.ts';
import { TestNode, type TestPod } from '../../support/netns.ts';

/** Says nothing of how fast things are: the machine may be busy with others. */
const PATIENCE_MS = 30_000;

const SOURCE = new URL('../../../', import.meta.url).pathname;

export class AgentScene {
  readonly node: TestNode;
  readonly dir: string;
  /** of the agent's run so far */
  log = '';
  /** where the agent runs; default: in the node's own */
  agentNetns: string;
  /** command that runs another in namespaces of the node, as its child: `nsenter -p …` */
  enter: readonly string[] = [];
  /** all that the agent may have, "NET_ADMIN"; undefined: whatever the test has */
  agentCapabilities: string[] | undefined;
  /** by name of the pod, where the mesh is no file */
  readonly uids = new Map<string, string>();
  readonly #pods: TestPod[] = [];
  readonly #children: ChildProcess[] = [];
  /** the mesh names no pod's netns: the agent has to find it */
  readonly #unnamed: boolean;
  #namespaceLabels: Record<string, string> = {};
  /** by name of the pod */
  readonly #annotations: Record<string, Record<string, string>> = {};

  private constructor(node: TestNode, unnamed: boolean) {
    this.node = node;
    this.dir = node.dir;
    this.#unnamed = unnamed;
    this.agentNetns = node.nodeNetns;
    mkdirSync(join(this.dir, 'mesh.yaml.d'), { recursive: true });
  }

  static async create(part = 'agent', { unnamed = false } = {}): Promise<AgentScene> {
    const node = await TestNode.create(part);
    const forward = 'echo 1 > /proc/sys/net/ipv4/ip_forward; echo 1 > /proc/sys/net/ipv6/conf/all/forwarding';
    execFileSync('nsenter', [`--net=${node.nodeNetns}`, 'sh', '-c', forward]); // as every node does
    return new AgentScene(node, unnamed);
  }

  async pod(name: string, n: number): Promise<TestPod> {
    const pod = await this.node.pod(name, n);
    this.#pods.push(pod);
    this.writeMesh();
    return pod;
  }

  forget(pod: TestPod): void {
    this.#pods.splice(this.#pods.indexOf(pod), 1);
    this.writeMesh();
  }

  /** Where the agent has to find it: as the API server makes them; the same for the same name. */
  uidOf({ name }: Pick<TestPod, 'name'>): string {
    if (!this.#unnamed) return `uid-${name}`;
    return `00000000-0000-4000-8000-${Buffer.from(name).toString('hex').padStart(12, '0')}`;
  }

  label(mode: string | undefined): void {
    this.#namespaceLabels = mode === undefined ? {} : { 'istio.io/dataplane-mode': mode };
    this.writeMesh();
  }

  /** The pod's own, as whoever wrote its manifest gave it. */
  annotate({ name }: TestPod, annotations: Record<string, string>): void {
    this.#annotations[name] = annotations;
    this.writeMesh();
  }

  writeMesh(): void {
    const mesh = {
      nodes: ['n1'],
      namespaces: { shop: { labels: this.#namespaceLabels } },
      pods: this.#pods.map((pod) => ({ name: pod.name, namespace: 'shop', node: 'n1', annotations: this.#annotations[pod.name] })),
    };
    const lab = {
      pods: Object.fromEntries(
        this.#pods.map((pod) => [
          `shop/${pod.name}`,
          { uid: this.uidOf(pod), ips: [pod.ip4, pod.ip6], ...(this.#unnamed ? {} : { netns: pod.netns }) },
        ]),
      ),
    };
    this.#replace('mesh.yaml', mesh);
    this.#replace('mesh.yaml.d/lab.json', lab);
  }

  annotations(): Record<string, Record<string, string>> {
    const path = join(this.dir, 'mesh.yaml.d/annotations-n1.json');
    return existsSync(path) ? (JSON.parse(readFileSync(path, 'utf8')) as Record<string, Record<string, string>>) : {};
  }

  /** Resolves when its plugin door is open, or it ended. */
  async startAgent(flags: string[] = []): Promise<ChildProcess> {
    const child = this.#spawn('agent', this.agentNetns, [
      join(SOURCE, 'src/main.ts'),
      'agent',
      '--node',
      'n1',
      '--run-dir',
      join(this.dir, 'run'),
      '--state-dir',
      join(this.dir, 'state'),
      '--pin-dir',
      join(this.node.bpffs, 'n1'),
      '--zds-socket',
      join(this.dir, 'zds.sock'),
      '--cgroup-root',
      this.node.cgroupRoot,
      '--node-netns',
      this.node.nodeNetns,
      '--mesh-file',
      join(this.dir, 'mesh.yaml'),
      '--max-pods',
      '50',
      '--log-level',
      'debug',
      ...flags,
    ]);
    this.log = '';
    child.stderr?.on('data', (chunk: Buffer) => {
      this.log += chunk.toString();
    });
    await until(
      () => this.log.includes('agent serves') || child.exitCode !== null,
      () => this.log,
    );
    return child;
  }

  startTunnel(cgroup = 'ztunnel'): ChildProcess {
    return this.#spawn(cgroup, this.node.nodeNetns, [new URL('./zds-tunnel.ts', import.meta.url).pathname, join(this.dir, 'zds.sock')]);
  }

  async ask<T>(request: AdminRequest, fd?: number): Promise<T> {
    const response = await new Promise<AdminResponse<T>>((resolve, reject) => {
      const parts: Uint8Array[] = [];
      const socket = native.seqpacketConnect(join(this.dir, 'run/admin.sock'), 1 << 17, {
        onPacket(data) {
          parts.push(data.slice(1));
          if (data[0] !== 1) return;
          resolve(JSON.parse(Buffer.concat(parts).toString()) as AdminResponse<T>);
          socket.close();
        },
        onClose: () => {
          reject(new Error('no answer'));
        },
      });
      socket.send(Buffer.from(JSON.stringify(request)), fd);
    });
    if (!response.ok) throw new Error(`${response.error.code}: ${response.error.message}`);
    return response.result;
  }

  /** Waits until pod states are as named: { a: 'enrolled active' }. */
  async pods(wanted: Record<string, string>): Promise<PodStatus[]> {
    let pods: PodStatus[] = [];
    const now = (): Record<string, string> => Object.fromEntries(pods.map((pod) => [pod.name, `${pod.state} ${pod.datapath}`]));
    await until(
      async () => {
        pods = await this.ask<PodStatus[]>({ op: 'pods' });
        return Object.entries(wanted).every(([name, state]) => now()[name] === state);
      },
      () =>
        `${JSON.stringify(now())} instead of ${JSON.stringify(wanted)}; reasons: ${pods.map((pod) => pod.reason).join(' | ')}; agent: ${this.log.slice(-3000)}`,
    );
    return pods;
  }

  async annotated(uid: string, value: string | undefined): Promise<void> {
    await until(
      () => this.annotations()[uid]?.['ambient.istio.io/redirection'] === value,
      () => JSON.stringify(this.annotations()),
    );
  }

  status(): Promise<AgentStatus> {
    return this.ask({ op: 'status' });
  }

  cni(verb: 'add' | 'del', pod: TestPod): Promise<{ status: number; body: Record<string, unknown> }> {
    const body = {
      network: 'k8s',
      containerId: `c-${pod.name}`,
      netns: pod.netns,
      ifname: 'eth0',
      podNamespace: 'shop',
      podName: pod.name,
      podUid: this.uids.get(pod.name) ?? this.uidOf(pod),
      ips: [pod.ip4, pod.ip6],
    };
    return new Promise((resolve, reject) => {
      const outgoing = httpRequest(
        { socketPath: join(this.dir, 'run/cni.sock'), path: `/v1/${verb}`, method: 'POST', agent: false },
        (response) => {
          let text = '';
          response.on('data', (chunk: Buffer) => {
            text += chunk.toString();
          });
          response.on('end', () => {
            resolve({ status: response.statusCode ?? 0, body: JSON.parse(text) as Record<string, unknown> });
          });
        },
      );
      outgoing.on('error', reject);
      outgoing.end(JSON.stringify(body));
    });
  }

  async close(): Promise<void> {
    for (const child of this.#children) await stop(child, 'SIGKILL');
    await this.node.close();
  }

  #spawn(cgroup: string, netns: string, args: string[]): ChildProcess {
    const only = cgroup === 'agent' ? this.agentCapabilities : undefined;
    const reduced = only === undefined ? [] : ['setpriv', `--bounding-set=-all${only.map((name) => `,+${name.toLowerCase()}`).join('')}`];
    const command = [...this.enter, 'nsenter', `--net=${netns}`, ...reduced, process.execPath, ...args];
    const child = spawn('sh', ['-c', 'echo $$ > "$0/cgroup.procs" && exec "$@"', this.node.cgroupPath(cgroup), ...command], {
      stdio: ['ignore', 'inherit', 'pipe'],
    });
    if (cgroup !== 'agent') child.stderr.on('data', (chunk: Buffer) => process.stderr.write(chunk));
    this.#children.push(child);
    return child;
  }

  #replace(name: string, content: unknown): void {
    const path = join(this.dir, name);
    writeFileSync(`${path}.new`, JSON.stringify(content));
    renameSync(`${path}.new`, path);
  }
}

export async function stop(child: ChildProcess, signal: NodeJS.Signals): Promise<number | null> {
  if (child.exitCode !== null || child.signalCode !== null) return child.exitCode;
  const gone = new Promise((resolve) => child.once('exit', resolve));
  const { pid = 0 } = child;
  // signals do not go on to who was run in another pid namespace
  const [entered = pid] = readFileSync(`/proc/${pid}/comm`, 'utf8') === 'nsenter\n' ? childrenOf(pid) : [];
  process.kill(entered, signal);
  await gone;
  return child.exitCode;
}

/** @param why what to say when it is in vain */
export async function until(check: () => boolean | Promise<boolean>, why: () => string): Promise<void> {
  const end = performance.now() + PATIENCE_MS;
  while (!(await check())) {
    if (performance.now() > end) throw new Error(`not within ${PATIENCE_MS / 1000} s: ${why()}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
