/** Two nodes' tunnels as real processes, each with an agent's ZDS server, and pods behind the real datapath. */
import { spawn, type ChildProcess } from 'node:child_process';
import { closeSync, mkdirSync, openSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { join } from 'node:path';
import { createLogger } from '../../../src/base/log.ts';
import type { PodTarget, RedirectDriver } from '../../../src/redirect/driver.ts';
import { createEbpfDriver } from '../../../src/redirect/ebpf/index.ts';
import { bpfObject, native } from '../../../src/sys/native.ts';
import { seqpacketListen } from '../../../src/sys/seqpacket.ts';
import type { ConfigDump } from '../../../src/tunnel/config-dump.ts';
import { createLocalCa } from '../../../src/tunnel/local-ca.ts';
import { ZdsServer } from '../../../src/zds/server.ts';
import { MAX_PACKET } from '../../../src/zds/messages.ts';
import { TestNode, type TestPod } from '../../support/netns.ts';
import type { Commands } from './app.ts';

const MAIN = new URL('../../../src/main.ts', import.meta.url).pathname;
const APP = new URL('./app.ts', import.meta.url).pathname;
const log = createLogger('test', process.env['CULVERT_TEST_LOG'] ?? 'silent');

export interface Pod extends TestPod {
  node: string;
  serviceAccount: string;
  enrolled: boolean;
  ipv6: boolean;
  netnsFd: number;
  cookie: bigint;
}

export class App {
  readonly #child: ChildProcess;
  readonly #waiting = new Map<number, { resolve: (value: never) => void; reject: (error: Error) => void }>();
  #next = 1;

  constructor(child: ChildProcess) {
    this.#child = child;
    child.on('message', (message: { id?: number; result?: unknown; error?: string }) => {
      const waiting = this.#waiting.get(message.id ?? 0);
      if (message.error === undefined) waiting?.resolve(message.result as never);
      else waiting?.reject(new Error(message.error));
    });
  }

  call<K extends keyof Commands>(op: K, args: Commands[K]['args']): Promise<Commands[K]['result']> {
    const id = this.#next++;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
      this.#child.send({ id, op, args });
    });
  }
}

export class TunnelScene {
  readonly node: TestNode;
  readonly pods = new Map<string, Pod>();
  readonly servers = new Map<string, ZdsServer>();
  readonly driver: RedirectDriver;
  readonly #children: ChildProcess[] = [];
  readonly #meshFile: string;
  #pod = 2;

  private constructor(node: TestNode, driver: RedirectDriver) {
    this.node = node;
    this.#meshFile = join(node.dir, 'mesh.yaml');
    this.driver = driver;
    this.driver.trustTunnel(native.cgroupId(node.cgroupPath('tunnel')));
  }

  /** @param driver default: ebpf */
  static async create(driver: (node: TestNode) => RedirectDriver | Promise<RedirectDriver> = ebpfOf): Promise<TunnelScene> {
    const node = await TestNode.create('tun');
    try {
      const scene = new TunnelScene(node, await driver(node));
      await createLocalCa(join(node.dir, 'ca'));
      for (const name of ['node1', 'node2']) {
        const server = new ZdsServer({ listen: (onConnection) => seqpacketListen(scene.zdsSocket(name), MAX_PACKET, onConnection), log });
        server.open();
        scene.servers.set(name, server);
      }
      scene.writeMesh();
      return scene;
    } catch (error) {
      await node.close();
      throw error;
    }
  }

  zdsSocket(name: string): string {
    return join(this.node.dir, `${name}-zds.sock`);
  }

  runDir(name: string): string {
    return join(this.node.dir, name);
  }

  logFile(name: string): string {
    return join(this.node.dir, `${name}.log`);
  }

  logLines(name: string): Record<string, unknown>[] {
    return readFileSync(this.logFile(name), 'utf8')
      .trim()
      .split('\n')
      .filter((line) => line.startsWith('{'))
      .map((line) => JSON.parse(line) as Record<string, unknown>);
  }

  /** The mesh as it is now; the services select by the pod's name. */
  writeMesh(): void {
    const pods = [...this.pods.values()];
    const mesh = {
      nodes: ['node1', 'node2'],
      namespaces: { shop: { labels: {} } },
      pods: pods.map(({ name, node, serviceAccount }) => ({ name, namespace: 'shop', node, serviceAccount, labels: { app: name } })),
      services: pods.map(({ name }) => ({ name, namespace: 'shop', selector: { app: name }, ports: [{ port: 80, targetPort: 8080 }] })),
    };
    const lab = {
      pods: Object.fromEntries(
        pods.map(({ name, ip4, ip6, ipv6, netns }) => [
          `shop/${name}`,
          { uid: `uid-${name}`, ips: ipv6 ? [ip4, ip6] : [ip4], netns, phase: 'Running' },
        ]),
      ),
      services: Object.fromEntries(pods.map(({ name }, index) => [`shop/${name}`, { vips: [`10.99.0.${String(index + 1)}`] }])),
    };
    const annotations = (node: string): object =>
      Object.fromEntries(
        pods
          .filter((pod) => pod.enrolled && pod.node === node)
          .map(({ name }) => [`uid-${name}`, { 'ambient.istio.io/redirection': 'enabled' }]),
      );
    mkdirSync(`${this.#meshFile}.d`, { recursive: true });
    this.#write(join(`${this.#meshFile}.d`, 'lab.json'), lab);
    for (const node of ['node1', 'node2']) this.#write(join(`${this.#meshFile}.d`, `annotations-${node}.json`), annotations(node));
    this.#write(this.#meshFile, mesh);
  }

  #write(path: string, content: object): void {
    writeFileSync(`${path}.new`, JSON.stringify(content));
    renameSync(`${path}.new`, path);
  }

  /** Resolves when the agent's server has its connection. @param memory heap limit, MB */
  async tunnel(name: string, flags: string[] = []): Promise<ChildProcess> {
    // By id: a predecessor that was killed may still be counted.
    const ids = (): string[] =>
      this.servers
        .get(name)!
        .connections()
        .map(({ id }) => id);
    const before = new Set(ids());
    const args = [
      '--node',
      name,
      '--run-dir',
      this.runDir(name),
      '--zds-socket',
      this.zdsSocket(name),
      '--mesh-file',
      this.#meshFile,
      '--ca-dir',
      join(this.node.dir, 'ca'),
    ];
    const child = this.#spawn(
      'tunnel',
      this.node.nodeNetns,
      [MAIN, 'ztunnel', ...args, '--admin-port', '0', '--readiness-port', '0', ...flags],
      openSync(this.logFile(name), 'a'),
    );
    await eventually(`${name} connects`, () => ids().some((id) => !before.has(id)));
    return child;
  }

  async pod(name: string, node: string, options: { ipv6?: boolean } = {}): Promise<Pod> {
    const n = this.#pod++;
    const made = await this.node.pod(name, n, options);
    const pod = {
      ...made,
      node,
      serviceAccount: name,
      enrolled: false,
      ipv6: options.ipv6 ?? true,
      netnsFd: openSync(made.netns, 'r'),
      cookie: 0n,
    };
    this.pods.set(name, pod);
    this.writeMesh();
    return pod;
  }

  targetOf(pod: Pod): PodTarget {
    return {
      uid: `uid-${pod.name}`,
      namespace: 'shop',
      name: pod.name,
      netnsFd: pod.netnsFd,
      netnsCookie: native.netnsCookie(pod.netnsFd),
      netnsPath: pod.netns,
      flags: { dns: false, ingressMode: false, markOnly: false },
    };
  }

  async enrol(pod: Pod, over: Partial<PodTarget> = {}): Promise<void> {
    pod.cookie = (await this.driver.prepare({ ...this.targetOf(pod), ...over })).cookie;
    const info = { name: pod.name, namespace: 'shop', serviceAccount: pod.serviceAccount };
    await this.servers.get(pod.node)!.add({ uid: `uid-${pod.name}`, info, netnsFd: pod.netnsFd });
    await this.driver.activate(pod.cookie);
    pod.enrolled = true;
    this.writeMesh();
    const others = [...this.servers.keys()];
    await eventually('tunnels know', async () => {
      const dumps = await Promise.all(others.map((other) => this.dump(other).catch(() => undefined)));
      return dumps.every(
        (dump) =>
          dump === undefined ||
          dump.workloads.some(
            (w) => (w as { name: string; protocol: string }).name === pod.name && (w as { protocol: string }).protocol === 'HBONE',
          ),
      );
    });
  }

  async app(pod: Pod): Promise<App> {
    const child = this.#spawn('app', pod.netns, [APP], 'inherit', true);
    await new Promise<void>((resolve, reject) => {
      child.once('message', () => resolve());
      child.once('exit', (code) => reject(new Error(`app ended: ${String(code)}`)));
    });
    return new App(child);
  }

  dump(name: string): Promise<ConfigDump> {
    return new Promise((resolve, reject) => {
      const asked = request(
        { socketPath: join(this.runDir(name), 'ztunnel-admin.sock'), path: '/config_dump', agent: false },
        (response) => {
          let body = '';
          response.on('data', (chunk: Buffer) => (body += chunk.toString()));
          response.on('end', () => resolve(JSON.parse(body) as ConfigDump));
        },
      );
      asked.on('error', reject);
      asked.end();
    });
  }

  async end(child: ChildProcess, signal: NodeJS.Signals): Promise<number | null> {
    if (child.exitCode !== null || child.signalCode !== null) return child.exitCode;
    const gone = new Promise<number | null>((resolve) => child.once('exit', (code) => resolve(code)));
    child.kill(signal);
    return gone;
  }

  async close(): Promise<void> {
    await Promise.all(this.#children.map((child) => this.end(child, 'SIGKILL')));
    for (const pod of this.pods.values()) {
      if (pod.cookie !== 0n) await this.driver.remove(pod.cookie, pod.netnsFd, 0);
      closeSync(pod.netnsFd);
    }
    for (const server of this.servers.values()) server.close();
    this.driver.close();
    await this.node.close();
  }

  #spawn(cgroup: string, netns: string, args: string[], output: number | 'inherit', ipc = false): ChildProcess {
    const script = 'echo $$ > "$0/cgroup.procs" && netns=$1 && shift && exec nsenter --net="$netns" "$@"';
    const child = spawn('sh', ['-c', script, this.node.cgroupPath(cgroup), netns, process.execPath, ...args], {
      stdio: ipc ? ['ignore', 'inherit', 'inherit', 'ipc'] : ['ignore', output, output],
    });
    this.#children.push(child);
    return child;
  }
}

function ebpfOf(node: TestNode): RedirectDriver {
  return createEbpfDriver({
    object: bpfObject(),
    pinDir: `${node.bpffs}/agent`,
    cgroupRoot: node.cgroupRoot,
    nodeNetns: node.nodeNetns,
    instance: 0x7e57n,
    version: 'test',
    maxPods: 110,
    log,
  });
}

export async function eventually(what: string, test: () => boolean | Promise<boolean>, ms = 30_000): Promise<void> {
  const end = performance.now() + ms;
  while (!(await test())) {
    if (performance.now() > end) throw new Error(`not within ${String(ms)} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}
