/** A throw-away network namespace for these tests: lo, and a veth pair whose both ends stay inside. 10.9.0.1/24 and fd09::1/64. */
import { execFileSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { native } from '../../../src/sys/native.ts';
import { Netns } from '../../../src/sys/netns.ts';

export class Place {
  readonly name: string;
  readonly path: string;
  readonly netns: Netns;

  private constructor(name: string) {
    this.name = name;
    this.path = `/var/run/netns/${name}`;
    this.netns = Netns.open(this.path);
  }

  static create(part: string): Place {
    const name = `cvt-addon-${part}-${process.pid}`;
    execFileSync('ip', ['netns', 'add', name]);
    const commands = [
      'link set lo up',
      'link add eth0 type veth peer name eth1',
      'link set eth0 up',
      'link set eth1 up',
      'addr add 10.9.0.1/24 dev eth0',
      'addr add fd09::1/64 dev eth0 nodad',
    ];
    execFileSync('ip', ['-n', name, '-batch', '-'], { input: `${commands.join('\n')}\n` });
    return new Place(name);
  }

  /** What a command says inside the namespace. */
  shell(script: string): string {
    return execFileSync('ip', ['netns', 'exec', this.name, 'sh', '-c', script], { encoding: 'utf8' }).trim();
  }

  close(): void {
    this.netns.close();
    execFileSync('ip', ['netns', 'del', this.name]);
  }
}

/** Starts the addon's two threads, which keep four descriptors between them, so that counting starts from a steady number. */
export function startThreads(): void {
  using own = Netns.ofProcess(process.pid);
  own.runAll([]);
  native.netnsWatch(-1, () => undefined).close();
}

export function openFds(): number {
  return readdirSync('/proc/self/fd').length;
}

/** Until the condition holds. @throws after half a minute */
export async function until(what: string, condition: () => boolean): Promise<void> {
  const end = Date.now() + 30_000;
  while (!condition()) {
    if (Date.now() > end) throw new Error(`waited in vain until ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

export function errorOf(action: () => unknown): NodeJS.ErrnoException {
  try {
    action();
  } catch (error) {
    return error as NodeJS.ErrnoException;
  }
  throw new Error('nothing was thrown');
}
