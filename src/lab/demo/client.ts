/** The demo's hand on a caller (`src/lab/caller.ts`) inside a pod. */
import { spawn, type ChildProcessByStdio } from 'node:child_process';
import { createInterface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';
import { CulvertError } from '../../base/errors.ts';
import type { CallAnswer, CallRequest } from '../caller.ts';
import { inPod, placeOf, type PodPlace } from '../exec.ts';
import type { LabPaths } from '../paths.ts';
import { selfCommand } from '../self.ts';

export class Client {
  readonly place: PodPlace;
  readonly #child: ChildProcessByStdio<Writable, Readable, null>;
  readonly #waiting = new Map<number, (answer: CallAnswer) => void>();
  #seq = 0;

  private constructor(place: PodPlace, child: ChildProcessByStdio<Writable, Readable, null>) {
    this.place = place;
    this.#child = child;
  }

  /** @param key "namespace/name" of the pod to live in */
  static async start(lab: LabPaths, key: string): Promise<Client> {
    const place = placeOf(lab, key);
    const [program, ...args] = inPod(place, [...selfCommand(), 'lab-caller']) as [string, ...string[]];
    const child = spawn(program, args, { stdio: ['pipe', 'pipe', 'inherit'] });
    child.stdin.on('error', () => undefined); // told by `exit`
    const client = new Client(place, child);
    await client.#readAnswers();
    return client;
  }

  /** Never rejects: a refused connection is an answer, too. */
  async call(request: CallRequest): Promise<CallAnswer> {
    this.#seq += 1;
    const seq = this.#seq;
    return new Promise((resolve) => {
      this.#waiting.set(seq, resolve);
      this.#child.stdin.write(`${JSON.stringify({ seq, ...request })}\n`);
    });
  }

  /** The answer's text and our end of the connection. @throws CulvertError CHECK_FAILED when it did not work */
  async must(request: CallRequest): Promise<{ text: string; local: string; ms: number }> {
    const answer = await this.call(request);
    if (!answer.ok)
      throw new CulvertError(
        'CHECK_FAILED',
        `${this.place.pod.name} to ${'host' in request ? `${request.host}:${request.port}` : request.id}: ${answer.error}`,
      );
    return { text: answer.text, local: answer.local ?? '', ms: answer.ms };
  }

  close(): void {
    this.#child.kill('SIGKILL');
  }

  async #readAnswers(): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      createInterface({ input: this.#child.stdout }).on('line', (line) => {
        const { seq, ready, ...answer } = JSON.parse(line) as CallAnswer & { seq?: number; ready?: boolean };
        if (ready === true) resolve();
        this.#waiting.get(seq ?? 0)?.(answer);
        this.#waiting.delete(seq ?? 0);
      });
      this.#child.once('exit', (code) => {
        reject(new CulvertError('LAB', `start caller in ${this.place.pod.name}: it ended with ${code}`));
        for (const settle of this.#waiting.values()) settle({ ok: false, ms: 0, error: 'the caller is gone', code: '' });
      });
    });
  }
}
