/** A process of the test's cluster: it dies with the test process, whatever ends that, and leaves a log. */
import { spawn, type ChildProcess } from 'node:child_process';
import { closeSync, openSync, readFileSync } from 'node:fs';
import { once } from 'node:events';
import { until } from './until.ts';

const LOG_TAIL = 30;

export interface ComponentOptions {
  /** Command that runs another in a pid namespace, as its child: `nsenter -p …`. Signals go to that child then. */
  enter?: readonly string[];
  env?: NodeJS.ProcessEnv;
}

export class Component {
  readonly name: string;
  readonly log: string;
  readonly #command: readonly string[];
  readonly #options: ComponentOptions;
  #child: ChildProcess | undefined;
  #ending = false;

  /** @param log path of its log, appended to */
  constructor(name: string, command: readonly string[], log: string, options: ComponentOptions = {}) {
    this.name = name;
    this.#command = command;
    this.log = log;
    this.#options = options;
  }

  start(): void {
    const { enter = [], env } = this.#options;
    const log = openSync(this.log, 'a');
    // The kernel kills it with the thread that started it: also when a test process is killed with no time to clean up.
    this.#child = spawn('setpriv', ['--pdeathsig', 'KILL', ...enter, ...this.#command], {
      stdio: ['ignore', log, log],
      ...(env === undefined ? {} : { env }),
    });
    closeSync(log);
    this.#ending = false;
  }

  /** of the process, for measuring it; 0: none, or not yet there */
  get pid(): number {
    const pid = this.#child?.pid ?? 0;
    return this.#options.enter === undefined || pid === 0 ? pid : (childrenOf(pid)[0] ?? 0);
  }

  get running(): boolean {
    return this.#child !== undefined && this.#child.exitCode === null && this.#child.signalCode === null;
  }

  /** It was started, and ended without being told to. */
  get failed(): boolean {
    return this.#child !== undefined && !this.running && !this.#ending;
  }

  /** What it said last, for messages about its end. */
  tail(): string {
    return readFileSync(this.log, 'utf8').split('\n').slice(-LOG_TAIL).join('\n');
  }

  /** Killed, not asked: an API server waits long for its watches to end. */
  kill(): Promise<void> {
    return this.#end('SIGKILL');
  }

  /** Asked to end, and waited for. */
  stop(): Promise<void> {
    return this.#end('SIGTERM');
  }

  async #end(signal: NodeJS.Signals): Promise<void> {
    const child = this.#child;
    if (child === undefined || !this.running) return;
    this.#ending = true;
    const gone = once(child, 'exit');
    await until(`a pid of ${this.name}`, () => this.pid !== 0 || !this.running);
    const { pid } = this;
    if (pid !== 0) process.kill(pid, signal);
    await gone;
  }
}

/** @returns pids; none when the process is gone */
export function childrenOf(pid: number): number[] {
  try {
    const text = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim();
    return text === '' ? [] : text.split(' ').map(Number);
  } catch {
    return [];
  }
}
