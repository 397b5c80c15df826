/** A machine out of namespaces: mount, network, pid and UTS of its own, and this machine's file system with private parts. */
import { execFile } from 'node:child_process';
import { existsSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';
import { childrenOf, Component } from '../kubernetes/component.ts';
import { until } from '../kubernetes/until.ts';

const BINARIES = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';
const OUTPUT_LIMIT = 1 << 26;

export interface EnclosureOptions {
  /** also its host name */
  name: string;
  /** of this machine; its log is left here */
  dir: string;
  /** lines of bash that its first process runs inside, before `program` takes its place */
  setup: readonly string[];
  /** executable that buries orphans */
  program: string;
  /** directories before the usual ones in PATH */
  path?: readonly string[];
}

export interface ExecOptions {
  stdin?: string | Buffer;
  /** default 60,000 */
  timeoutMs?: number;
}

export interface ExecResult {
  /** −1: killed by a signal, or by the time limit */
  code: number;
  stdout: string;
  stderr: string;
}

export class Enclosure {
  readonly name: string;
  /** of its first process, as this machine counts */
  readonly pid: number;
  readonly env: NodeJS.ProcessEnv;
  readonly #holder: Component;

  private constructor(name: string, pid: number, env: NodeJS.ProcessEnv, holder: Component) {
    this.name = name;
    this.pid = pid;
    this.env = env;
    this.#holder = holder;
  }

  /** Returns when `setup` has run. */
  static async start({ name, dir, setup, program, path = [] }: EnclosureOptions): Promise<Enclosure> {
    const ready = join(dir, 'ready');
    const script = ['set -e', `hostname ${name}`, 'ip link set lo up', ...setup, `touch ${ready}`, `exec ${program}`].join('\n');
    const env = { PATH: [...path, BINARIES].join(':'), HOME: '/root', LANG: 'C.UTF-8' };
    // With unshare its child dies, and with that one, the first of its pid namespace, everything.
    const unshare = ['unshare', '--mount', '--net', '--uts', '--pid', '--mount-proc', '--kill-child', '--propagation', 'private'];
    const holder = new Component(name, [...unshare, 'bash', '-c', script], join(dir, 'setup.log'), { env });
    holder.start();
    await until(`${name} to be set up`, () => {
      if (!holder.running) throw new Error(`set up ${name}:\n${holder.tail()}`);
      return existsSync(ready);
    });
    const pid = childrenOf(holder.pid)[0];
    if (pid === undefined) throw new Error(`${name} ended:\n${holder.tail()}`);
    return new Enclosure(name, pid, env, holder);
  }

  /** Path of its network namespace. */
  get netns(): string {
    return `/proc/${this.pid}/ns/net`;
  }

  /** The command that runs what follows inside. */
  get enter(): string[] {
    return ['nsenter', '-t', String(this.pid), '-m', '-n', '-p', '-u', '--wdns=/', '--'];
  }

  /** Where a file of it is seen from outside. Absolute symbolic links would lead out of it: the one at /var/run is followed here. */
  path(inside: string): string {
    return join(`/proc/${this.pid}/root`, inside.replace(/^\/var\/run(?=\/|$)/, '/run'));
  }

  /** Of a process in it, as this machine counts. */
  owns(pid: number): boolean {
    try {
      return readlinkSync(`/proc/${pid}/ns/pid`) === readlinkSync(`/proc/${this.pid}/ns/pid`);
    } catch {
      return false;
    }
  }

  exec(argv: readonly string[], options: ExecOptions = {}): Promise<ExecResult> {
    // With nsenter, which the time limit kills, ends what it started.
    return this.#execute([...this.enter, 'setpriv', '--pdeathsig', 'KILL', ...argv], options);
  }

  /** @returns stdout @throws with stderr when it does not exit with 0 */
  async run(argv: readonly string[], options?: ExecOptions): Promise<string> {
    return this.#output(argv, await this.exec(argv, options));
  }

  /** @param lines of `ip -batch`: "link set eth0 up"; pids in them are this machine's */
  async ip(lines: readonly string[]): Promise<void> {
    const argv = ['nsenter', `--net=${this.netns}`, 'ip', '-batch', '-'];
    this.#output(argv, await this.#execute(argv, { stdin: `${lines.join('\n')}\n` }));
  }

  /** Kills all that runs in it; returns when the kernel has ended the last process. */
  async close(): Promise<void> {
    // Connections to whoever is killed at the same time would be tried for two minutes, and keep the network namespace as long.
    await this.exec(['sysctl', '-qw', 'net.ipv4.tcp_orphan_retries=1']);
    const gone = until(`${this.name} to end`, () => !this.#holder.running);
    try {
      process.kill(this.pid, 'SIGKILL');
    } catch {
      // gone already
    }
    await gone;
  }

  #output(argv: readonly string[], { code, stdout, stderr }: ExecResult): string {
    if (code !== 0) throw new Error(`${this.name}: ${argv.join(' ')}: exit code ${code}\n${stderr}${stdout}`.trimEnd());
    return stdout;
  }

  #execute([command, ...args]: readonly string[], { stdin, timeoutMs = 60_000 }: ExecOptions): Promise<ExecResult> {
    return new Promise((resolve, reject) => {
      const options = { env: this.env, maxBuffer: OUTPUT_LIMIT, timeout: timeoutMs, killSignal: 'SIGKILL' } as const;
      const child = execFile(command!, args, options, (error, stdout, stderr) => {
        if (error === null) resolve({ code: 0, stdout, stderr });
        else if (error.syscall !== undefined) reject(new Error(`run ${command!}: ${error.message}`, { cause: error }));
        else resolve({ code: typeof error.code === 'number' ? error.code : -1, stdout, stderr });
      });
      child.stdin?.on('error', () => undefined); // it may end without reading
      child.stdin?.end(stdin);
    });
  }
}
