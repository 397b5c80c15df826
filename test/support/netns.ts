/**
 * A throw-away node for tests that need root: network namespaces joined by a bridge, cgroups below the v2 root, an own bpffs mount,
 * and processes inside them. Everything carries one prefix and goes with `close()`, also after a failure.
 *
 * Addresses: the node is 10.77.0.1 and fd77::1; pod n is 10.77.0.n and fd77::n (hexadecimal n in v6 is the same number).
 */
import { execFile, execFileSync, spawn, type ChildProcess } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, rmSync } from 'node:fs';
import { promisify } from 'node:util';
import type { Commands } from './endpoint.ts';

const run = promisify(execFile);
const ENDPOINT = new URL('./endpoint.ts', import.meta.url).pathname;

export interface TestPod {
  name: string;
  /** name for `ip netns exec` */
  netnsName: string;
  /** path to open */
  netns: string;
  ip4: string;
  ip6: string;
}

/** A process of a test; `call` runs one command in it. */
export class Endpoint {
  readonly pid: number;
  readonly #child: ChildProcess;
  readonly #waiting = new Map<number, { resolve: (v: never) => void; reject: (e: Error) => void }>();
  #next = 1;

  constructor(child: ChildProcess) {
    this.#child = child;
    this.pid = child.pid ?? 0;
    child.on('message', (m: { id?: number; result?: unknown; error?: string }) => {
      const w = m.id === undefined ? undefined : this.#waiting.get(m.id);
      if (w === undefined || m.id === undefined) return;
      this.#waiting.delete(m.id);
      if (m.error === undefined) w.resolve(m.result as never);
      else w.reject(new Error(m.error));
    });
    child.on('exit', (code, signal) => {
      for (const w of this.#waiting.values()) w.reject(new Error(`endpoint ended: ${code ?? signal}`));
      this.#waiting.clear();
    });
  }

  call<K extends keyof Commands>(op: K, args: Commands[K]['args']): Promise<Commands[K]['result']> {
    const id = this.#next++;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
      this.#child.send({ id, op, args });
    });
  }

  /** SIGKILL, and waits until it is gone. */
  async kill(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const gone = new Promise((resolve) => this.#child.once('exit', resolve));
    this.#child.kill('SIGKILL');
    await gone;
  }
}

/** Mount point of cgroup v2, by mount type. */
export function cgroup2Root(): string {
  for (const line of readFileSync('/proc/self/mountinfo', 'utf8').split('\n')) {
    const [left, right] = line.split(' - ');
    if (right?.startsWith('cgroup2 ')) return left?.split(' ')[4] ?? '';
  }
  throw new Error('cgroup v2 is not mounted');
}

async function batch(options: string[], commands: string[]): Promise<string> {
  const child = run('ip', [...options, '-batch', '-']);
  child.child.stdin?.end(`${commands.join('\n')}\n`);
  return (await child).stdout;
}

export class TestNode {
  readonly prefix: string;
  /** network namespace of the node: the bridge lives here */
  readonly nodeNetns: string;
  readonly cgroupRoot: string;
  readonly bpffs: string;
  readonly dir: string;
  readonly #namespaces: string[] = [];
  readonly #cgroups: string[] = [];
  readonly #processes: Endpoint[] = [];

  private constructor(prefix: string) {
    this.prefix = prefix;
    this.nodeNetns = `/var/run/netns/${prefix}-node`;
    this.cgroupRoot = `${cgroup2Root()}/${prefix}`;
    this.dir = `/run/${prefix}`;
    this.bpffs = `${this.dir}/bpffs`;
  }

  /** @param part short name of the suite, "red"; the process id makes it unique */
  static async create(part: string): Promise<TestNode> {
    const node = new TestNode(`cvt-${part}-${process.pid}`);
    try {
      mkdirSync(node.bpffs, { recursive: true });
      await run('mount', ['-t', 'bpf', 'bpffs', node.bpffs]);
      node.#cgroup(node.cgroupRoot);
      node.#namespaces.push(`${node.prefix}-node`);
      await run('ip', ['netns', 'add', `${node.prefix}-node`]);
      await node.ip(
        'link set lo up',
        'link add br0 type bridge',
        'link set br0 up',
        'addr add 10.77.0.1/16 dev br0',
        'addr add fd77::1/64 dev br0 nodad',
      );
      return node;
    } catch (error) {
      await node.close();
      throw error;
    }
  }

  /** Runs `ip` commands in a netns of this node (default: the node's own). */
  async ip(...commands: string[]): Promise<void> {
    await this.ipIn(`${this.prefix}-node`, ...commands);
  }

  ipIn(netnsName: string, ...commands: string[]): Promise<string> {
    return batch(['-n', netnsName], commands);
  }

  /** The same with `ip -6`, which rules and route flushes need. */
  ip6In(netnsName: string, ...commands: string[]): Promise<string> {
    return batch(['-6', '-n', netnsName], commands);
  }

  /**
   * A pod: netns with lo and eth0, default routes to the node. Its link-local address is given to it, because the kernel's own is looked
   * for duplicates first: an event of rtnetlink 1 to 3 s later, at which an agent repairs what a test has just broken.
   */
  async pod(name: string, n: number, options: { ipv6?: boolean } = {}): Promise<TestPod> {
    const netnsName = `${this.prefix}-${name}`;
    this.#namespaces.push(netnsName);
    await run('ip', ['netns', 'add', netnsName]);
    const six = options.ipv6 ?? true;
    const v6 = n.toString(16);
    if (!six)
      await run('ip', [
        'netns',
        'exec',
        netnsName,
        'sh',
        '-c',
        'for f in all default lo; do echo 1 > /proc/sys/net/ipv6/conf/$f/disable_ipv6; done',
      ]);
    await this.ip(`link add v${n} type veth peer name eth0 netns ${netnsName}`, `link set v${n} up master br0`);
    await this.ipIn(
      netnsName,
      'link set lo up',
      'link set eth0 up addrgenmode none',
      `addr add 10.77.${n >> 8}.${n & 255}/16 dev eth0`,
      'route add default via 10.77.0.1',
      ...(six ? [`addr add fe80::${v6}/64 dev eth0 nodad`, `addr add fd77::${v6}/64 dev eth0 nodad`, 'route add default via fd77::1'] : []),
    );
    return { name, netnsName, netns: `/var/run/netns/${netnsName}`, ip4: `10.77.${n >> 8}.${n & 255}`, ip6: `fd77::${v6}` };
  }

  /** @param path below /proc/sys */
  async sysctl(pod: TestPod, path: string, value: string): Promise<void> {
    await run('ip', ['netns', 'exec', pod.netnsName, 'sh', '-c', `echo ${value} > /proc/sys/${path}`]);
  }

  /** Deletes a pod's netns as a runtime does: the name goes, the kernel frees it when nobody holds it. */
  async deletePod(pod: TestPod): Promise<void> {
    await run('ip', ['netns', 'del', pod.netnsName]);
    this.#namespaces.splice(this.#namespaces.indexOf(pod.netnsName), 1);
  }

  /** A process in cgroup `<cgroupRoot>/<cgroup>` and in a netns. */
  async process(cgroup: string, netns: string): Promise<Endpoint> {
    const path = `${this.cgroupRoot}/${cgroup}`;
    this.#cgroup(path);
    const child = spawn(
      'sh',
      [
        '-c',
        'echo $$ > "$0/cgroup.procs" && exec nsenter --net="$1" "$2" --disable-warning=ExperimentalWarning "$3"',
        path,
        netns,
        process.execPath,
        ENDPOINT,
      ],
      { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] },
    );
    const endpoint = new Endpoint(child);
    this.#processes.push(endpoint);
    await new Promise<void>((resolve, reject) => {
      child.once('message', () => resolve());
      child.once('exit', (code) => reject(new Error(`endpoint did not start: ${code}`)));
    });
    return endpoint;
  }

  cgroupPath(cgroup: string): string {
    const path = `${this.cgroupRoot}/${cgroup}`;
    this.#cgroup(path);
    return path;
  }

  /** One that was removed, again. */
  remakeCgroup(cgroup: string): void {
    mkdirSync(`${this.cgroupRoot}/${cgroup}`);
  }

  #cgroup(path: string): void {
    if (this.#cgroups.includes(path)) return;
    mkdirSync(path, { recursive: true });
    this.#cgroups.push(path);
  }

  async close(): Promise<void> {
    await Promise.all(this.#processes.map((p) => p.kill()));
    for (const n of this.#namespaces) await run('ip', ['netns', 'del', n]).catch(() => undefined);
    await run('umount', [this.bpffs]).catch(() => undefined);
    for (const path of this.#cgroups.toReversed()) {
      // a cgroup stays busy for a moment after its last process was reaped
      for (let i = 0; i < 50; i++) {
        try {
          rmdirSync(path);
          break;
        } catch (error) {
          if ((error as NodeJS.ErrnoException).code !== 'EBUSY') break;
          await new Promise((resolve) => setTimeout(resolve, 20));
        }
      }
    }
    rmSync(this.dir, { recursive: true, force: true });
  }
}

/** Names below a bpffs directory, files and directories, sorted; for "nothing is left". */
export function tree(dir: string): string[] {
  for (;;) {
    try {
      return readdirSync(dir, { recursive: true }).map(String).sort();
    } catch (error) {
      // what is below may go while it is read
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT' || !existsSync(dir)) throw error;
    }
  }
}

/** What `ip` and `sysctl` say of a netns: rules, table 100, the three sysctls. For comparing before with after. */
export function settingsOf(netnsName: string): string {
  const script = [
    'ip rule',
    'ip -6 rule',
    'ip route show table 100 2>/dev/null',
    'ip -6 route show table 100 2>/dev/null',
    'for f in ipv4/tcp_fwmark_accept ipv4/fwmark_reflect ipv6/fwmark_reflect; do echo $f $(cat /proc/sys/net/$f 2>/dev/null); done',
  ].join('; ');
  return execFileSync('ip', ['netns', 'exec', netnsName, 'sh', '-c', script], { encoding: 'utf8' });
}
