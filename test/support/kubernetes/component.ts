/** A process of the test's cluster: it dies with the test process, whatever ends that, and leaves a log. */
import { spawn, type ChildProcess } from 'node:child_process';
import { closeSync, openSync, readFileSync } from 'node:fs';
import { once } from 'node:events';

const LOG_TAIL = 30;

export class Component {
  readonly name: string;
  readonly log: string;
  readonly #command: readonly string[];
  #child: ChildProcess | undefined;

  /** @param log path of its log, appended to */
  constructor(name: string, command: readonly string[], log: string) {
    this.name = name;
    this.#command = command;
    this.log = log;
  }

  start(): void {
    const log = openSync(this.log, 'a');
    // The kernel kills it with the thread that started it: also when a test process is killed with no time to clean up.
    this.#child = spawn('setpriv', ['--pdeathsig', 'KILL', ...this.#command], { stdio: ['ignore', log, log] });
    closeSync(log);
  }

  /** of the process, for measuring it */
  get pid(): number {
    return this.#child?.pid ?? 0;
  }

  get running(): boolean {
    return this.#child !== undefined && this.#child.exitCode === null && this.#child.signalCode === null;
  }

  /** What it said last, for messages about its end. */
  tail(): string {
    return readFileSync(this.log, 'utf8').split('\n').slice(-LOG_TAIL).join('\n');
  }

  /** Killed, not asked: an API server waits long for its watches to end. */
  async kill(): Promise<void> {
    const child = this.#child;
    if (child === undefined || !this.running) return;
    const gone = once(child, 'exit');
    child.kill('SIGKILL');
    await gone;
  }
}
