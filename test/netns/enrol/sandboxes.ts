/** Sandboxes of pods as runtimes make them, without a runtime: processes in network namespaces of their own and in cgroups named as kubelet's. */
import { execFileSync, spawn, type ChildProcess } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmdirSync } from 'node:fs';
import { join } from 'node:path';
import { cgroup2Root } from '../../support/netns.ts';

/** Where a process is put: v1 hierarchies, the one of v2, or both, as on a hybrid host. */
export type CgroupVersion = 'v1' | 'v2' | 'hybrid';

/** A v1 hierarchy that is mounted here; undefined on a machine that has none. */
const v1Root = ['/sys/fs/cgroup/memory', '/sys/fs/cgroup/pids', '/sys/fs/cgroup/cpu'].find((path) =>
  existsSync(join(path, 'cgroup.procs')),
);
export const hasV1 = v1Root !== undefined && v1Root !== cgroup2Root();

export class Sandboxes {
  readonly prefix: string;
  readonly #children: ChildProcess[] = [];
  readonly #cgroups: string[] = [];
  readonly #mounted: string[] = [];
  /** the machine's own: a process that is in no pod's cgroup of this hierarchy */
  readonly #roots: Record<'v1' | 'v2', string>;

  constructor(part: string) {
    this.prefix = `cvt-${part}-${process.pid}`;
    this.#roots = { v1: v1Root ?? '', v2: cgroup2Root() };
  }

  /**
   * A pause process with its own netns, which has these addresses on lo.
   * @param mount the runtime keeps the netns mounted, as containerd and CRI-O do
   * @param path below the root of its cgroup hierarchies, without our prefix
   */
  async sandbox(path: string, ips: string[], options: { version?: CgroupVersion; mount?: string } = {}): Promise<ChildProcess> {
    const add = ips.map((ip) => `ip addr add ${ip}/${ip.includes(':') ? 128 : 32} dev lo ${ip.includes(':') ? 'nodad' : ''}`).join(' && ');
    const script = `ip link set lo up${add === '' ? '' : ` && ${add}`} && echo ready && exec sleep 1000`;
    const child = await this.#start(path, options.version ?? 'v2', ['unshare', '--net', 'sh', '-c', script]);
    if (options.mount !== undefined) {
      const name = `${this.prefix}-${options.mount}`;
      execFileSync('ip', ['netns', 'attach', name, String(child.pid)]);
      this.#mounted.push(name);
    }
    return child;
  }

  /** Another process in that cgroup and in the netns of a sandbox: a container of the pod, or somebody who entered it. */
  container(path: string, sandbox: ChildProcess, version: CgroupVersion = 'v2'): Promise<ChildProcess> {
    return this.#start(path, version, ['nsenter', `--net=/proc/${sandbox.pid}/ns/net`, 'sh', '-c', 'echo ready; exec sleep 1000']);
  }

  unmount(mount: string): void {
    const name = `${this.prefix}-${mount}`;
    execFileSync('ip', ['netns', 'delete', name]);
    this.#mounted.splice(this.#mounted.indexOf(name), 1);
  }

  async end(child: ChildProcess): Promise<void> {
    if (child.exitCode !== null || child.signalCode !== null) return;
    const gone = new Promise((resolve) => child.once('exit', resolve));
    child.kill('SIGKILL');
    await gone;
  }

  async close(): Promise<void> {
    await Promise.all(this.#children.map((child) => this.end(child)));
    for (const name of [...this.#mounted]) execFileSync('ip', ['netns', 'delete', name]);
    for (const path of this.#cgroups.toReversed()) await remove(path);
  }

  /** What is left of ours: must be empty after close(). */
  leftovers(): string[] {
    const named = execFileSync('ip', ['netns', 'list'], { encoding: 'utf8' })
      .split('\n')
      .filter((line) => line.startsWith(this.prefix));
    return [...named, ...this.#cgroups.filter((path) => existsSync(path))];
  }

  async #start(path: string, version: CgroupVersion, command: string[]): Promise<ChildProcess> {
    const roots = version === 'hybrid' ? [this.#roots.v1, this.#roots.v2] : [this.#roots[version]];
    const cgroups = roots.map((root) => this.#cgroup(root, path));
    const enter = cgroups.map((cgroup) => `echo $$ > '${cgroup}/cgroup.procs' && `).join('');
    const child = spawn('sh', ['-c', `${enter}exec "$@"`, 'sh', ...command], { stdio: ['ignore', 'pipe', 'inherit'] });
    this.#children.push(child);
    await new Promise<void>((resolve, reject) => {
      child.stdout.once('data', () => resolve());
      child.once('exit', (code) => reject(new Error(`process in ${path} did not start: ${code}`)));
    });
    return child;
  }

  /** @param path "/" is the root itself */
  #cgroup(root: string, path: string): string {
    if (path === '/') return root;
    let directory = join(root, this.prefix);
    for (const part of ['', ...path.split('/').filter((each) => each !== '')]) {
      directory = part === '' ? directory : join(directory, part);
      if (this.#cgroups.includes(directory)) continue;
      mkdirSync(directory, { recursive: true });
      this.#cgroups.push(directory);
    }
    return directory;
  }
}

/** A cgroup stays busy for a moment after its last process was reaped. */
async function remove(path: string): Promise<void> {
  for (let i = 0; i < 100; i++) {
    try {
      rmdirSync(path);
      return;
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code === 'ENOENT') return;
      if (code !== 'EBUSY') throw error;
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }
  throw new Error(`${path} stays busy: ${readFileSync(join(path, 'cgroup.procs'), 'utf8')}`);
}
