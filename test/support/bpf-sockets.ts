/** A process in a netns and a cgroup that does system calls on sockets for a test: see bpf-sockets.c. */
import { execFileSync, spawn, type ChildProcess } from 'node:child_process';
import { mkdirSync, statSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { getSystemErrorName } from 'node:util';

const SOURCE = new URL('./bpf-sockets.c', import.meta.url).pathname;
const PROGRAM = new URL('../../build/test/bpf-sockets', import.meta.url).pathname;

export const SOL_SOCKET = 1;
export const SO_MARK = 36;
const SO_REUSEPORT = 15;
const SOL_IP = 0;
const IP_TRANSPARENT = 19;
const SOL_IPV6 = 41;
const IPV6_TRANSPARENT = 75;
const IPV6_V6ONLY = 26;
const WAIT_MS = 2000;

export type Family = 4 | 6;
export type Type = 'tcp' | 'udp' | 'mptcp' | 'raw';
export interface End {
  address: string;
  port: number;
}

/** A refused system call; `code` as Node names it. */
export class SocketError extends Error {
  readonly code: string;
  constructor(op: string, errno: number) {
    super(`${op}: ${getSystemErrorName(-errno)}`);
    this.code = getSystemErrorName(-errno);
  }
}

export class SocketProcess {
  readonly pid: number;
  readonly #child: ChildProcess;
  readonly #waiting: { op: string; resolve: (words: string[]) => void; reject: (e: Error) => void }[] = [];

  private constructor(child: ChildProcess) {
    this.#child = child;
    this.pid = child.pid ?? 0;
    createInterface({ input: child.stdout! }).on('line', (line) => {
      const [errno = '0', ...words] = line.split(' ');
      const next = this.#waiting.shift();
      if (errno === '0') next?.resolve(words);
      else next?.reject(new SocketError(next.op, Number(errno)));
    });
    child.on('exit', () => {
      for (const { op, reject } of this.#waiting.splice(0)) reject(new Error(`${op}: the process ended`));
    });
  }

  /** @param cgroup directory; @param netns path; @param through command that runs it, setpriv or unshare with their options */
  static start(cgroup: string, netns: string, through: string[] = []): SocketProcess {
    build();
    const script = 'echo $$ > "$0/cgroup.procs" && netns=$1 && shift && exec nsenter --net="$netns" "$@"';
    return new SocketProcess(spawn('sh', ['-c', script, cgroup, netns, ...through, PROGRAM], { stdio: ['pipe', 'pipe', 'inherit'] }));
  }

  call(op: string, ...args: (string | number)[]): Promise<string[]> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ op, resolve, reject });
      this.#child.stdin?.write(`${[op, ...args].join(' ')}\n`);
    });
  }

  async netnsCookie(): Promise<bigint> {
    return BigInt((await this.call('cookie'))[0]!);
  }

  async socket(family: Family, type: Type = 'tcp'): Promise<number> {
    return Number((await this.call('socket', family, type))[0]);
  }

  async close(...fds: number[]): Promise<void> {
    for (const fd of fds) await this.call('close', fd);
  }

  async mark(fd: number): Promise<number> {
    return Number((await this.call('get', fd, SOL_SOCKET, SO_MARK))[0]);
  }

  async setMark(fd: number, mark: number): Promise<void> {
    await this.call('set', fd, SOL_SOCKET, SO_MARK, mark);
  }

  /** @throws SocketError; ETIMEDOUT when nothing answered within `ms` */
  async connect(fd: number, { address, port }: End, ms = WAIT_MS): Promise<void> {
    await this.call('connect', fd, address, port, ms);
  }

  async bind(fd: number, { address, port }: End): Promise<void> {
    await this.call('bind', fd, address, port);
  }

  /** A listener on all addresses of both families, or on one. */
  async listen(port: number, address = '::', type: Type = 'tcp'): Promise<number> {
    const fd = await this.socket(address.includes(':') ? 6 : 4, type);
    await this.bind(fd, { address, port });
    await this.call('listen', fd);
    return fd;
  }

  /** A listener as the tunnel opens them. */
  async tunnelListen(port: number, options: { mark?: number; address?: string } = {}): Promise<number> {
    const { mark = 0x539, address = '::' } = options;
    const six = address.includes(':');
    const fd = await this.socket(six ? 6 : 4);
    await this.setMark(fd, mark);
    await this.transparent(fd, six ? 6 : 4);
    await this.call('set', fd, SOL_SOCKET, SO_REUSEPORT, 1);
    if (six) await this.call('set', fd, SOL_IPV6, IPV6_V6ONLY, 0);
    await this.bind(fd, { address, port });
    await this.call('listen', fd);
    return fd;
  }

  async transparent(fd: number, family: Family): Promise<void> {
    await (family === 6 ? this.call('set', fd, SOL_IPV6, IPV6_TRANSPARENT, 1) : this.call('set', fd, SOL_IP, IP_TRANSPARENT, 1));
  }

  async accept(fd: number, ms = WAIT_MS): Promise<{ fd: number; peer: End }> {
    const [accepted, address = '', port] = await this.call('accept', fd, ms);
    return { fd: Number(accepted), peer: { address, port: Number(port) } };
  }

  async name(fd: number): Promise<End> {
    const [address = '', port] = await this.call('name', fd);
    return { address, port: Number(port) };
  }

  async peer(fd: number): Promise<End> {
    const [address = '', port] = await this.call('peer', fd);
    return { address, port: Number(port) };
  }

  async send(fd: number, text: string): Promise<void> {
    await this.call('send', fd, text);
  }

  async receive(fd: number, ms = WAIT_MS): Promise<string> {
    return (await this.call('recv', fd, ms)).join(' ');
  }

  async sendTo(fd: number, { address, port }: End, text: string): Promise<void> {
    await this.call('sendto', fd, address, port, text);
  }

  async receiveFrom(fd: number, ms = WAIT_MS): Promise<End & { text: string }> {
    const [address = '', port, ...words] = await this.call('recvfrom', fd, ms);
    return { address, port: Number(port), text: words.join(' ') };
  }

  async kill(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const gone = new Promise((resolve) => this.#child.once('exit', resolve));
    this.#child.kill('SIGKILL');
    await gone;
  }
}

/** The system code of a call that was refused; undefined when it was not. */
export async function codeOf(call: Promise<unknown>): Promise<string | undefined> {
  try {
    await call;
    return undefined;
  } catch (error) {
    if (error instanceof SocketError) return error.code;
    throw error;
  }
}

function build(): void {
  const made = statSync(PROGRAM, { throwIfNoEntry: false });
  if (made !== undefined && made.mtimeMs > statSync(SOURCE).mtimeMs) return;
  mkdirSync(new URL('.', `file://${PROGRAM}`), { recursive: true });
  execFileSync('cc', ['-O1', '-Wall', '-Werror', '-o', PROGRAM, SOURCE]);
}
