/** The benchmark's hand on a load (`bench-load`) inside a client's pod. */
import { spawn, type ChildProcessByStdio } from 'node:child_process';
import { createInterface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';
import { CulvertError } from '../base/errors.ts';
import { inPod, type PodPlace } from '../lab/exec.ts';
import { selfCommand } from '../lab/self.ts';
import { podKey } from '../lab/topology.ts';
import type { LoadOrder, LoadResult } from '../sys/native.ts';
import type { LoadAnswer } from './load.ts';

/** On a machine that has other things to do; beyond what was ordered. */
const LATE_MS = 20_000;

interface Waiting {
  resolve: (result: LoadResult) => void;
  reject: (error: Error) => void;
}

export class Loader {
  readonly #pod: string;
  readonly #child: ChildProcessByStdio<Writable, Readable, null>;
  #waiting: Waiting | undefined;
  #ended: CulvertError | undefined;

  private constructor(place: PodPlace, child: ChildProcessByStdio<Writable, Readable, null>) {
    this.#pod = podKey(place.pod);
    this.#child = child;
  }

  /** @throws CulvertError LAB when it does not start */
  static async start(place: PodPlace): Promise<Loader> {
    const [program, ...args] = inPod(place, [...selfCommand(), 'bench-load']) as [string, ...string[]];
    // A group of its own: Ctrl-C is the benchmark's to answer.
    const child = spawn(program, args, { stdio: ['pipe', 'pipe', 'inherit'], detached: true });
    child.stdin.on('error', () => undefined); // told by `exit`
    const loader = new Loader(place, child);
    await loader.#listen();
    return loader;
  }

  /** One at a time. @throws CulvertError LAB when the load ends, or gives no answer */
  async run(order: LoadOrder): Promise<LoadResult> {
    if (this.#ended !== undefined) throw this.#ended;
    const late = setTimeout(() => this.#child.kill('SIGKILL'), order.warmMs + order.measureMs + LATE_MS);
    return new Promise<LoadResult>((resolve, reject) => {
      this.#waiting = { resolve, reject };
      this.#child.stdin.write(`${JSON.stringify(order)}\n`);
    }).finally(() => {
      clearTimeout(late);
      this.#waiting = undefined;
    });
  }

  close(): void {
    this.#child.kill('SIGKILL');
  }

  async #listen(): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      createInterface({ input: this.#child.stdout }).on('line', (line) => {
        const message = JSON.parse(line) as { ready: true } | LoadAnswer;
        if ('ready' in message) resolve();
        else if (message.ok) this.#waiting?.resolve(message.result);
        else this.#waiting?.reject(new CulvertError('LAB', `run load in ${this.#pod}: ${message.error}`));
      });
      this.#child.once('error', reject);
      this.#child.once('exit', (code, signal) => {
        this.#ended = new CulvertError('LAB', `run load in ${this.#pod}: it ended with ${signal ?? `exit code ${code}`}`);
        reject(this.#ended);
        this.#waiting?.reject(this.#ended);
      });
    });
  }
}
