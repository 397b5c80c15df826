/** One pod on its way in or out: runs the table's action lists one after another, and retries what failed with back-off. */
import { CulvertError } from '../base/errors.ts';
import type { Slots } from '../base/slots.ts';
import { AT_REST, transition, type Action, type PodEvent, type PodState, type Transition } from './states.ts';
import type { Subject } from './steps.ts';

export interface PodRunner {
  run(action: Action, pod: Subject, signal: AbortSignal): Promise<void>;
}

export interface Backoff {
  firstMs: number;
  maxMs: number;
}

/** Waiting, not working: these would hold a slot for seconds. */
const WITHOUT_SLOT: ReadonlySet<Action> = new Set<Action>(['grace', 'zdsAdd', 'zdsDel']);

export class MeshPod {
  readonly subject: Subject;
  #state: PodState = 'out';
  /** of the last change of state */
  since = new Date();
  /** why the last list failed; undefined again once one succeeded */
  error: CulvertError | undefined;
  /**
   * Announced in an earlier life, or by whoever was here before, and without a trace in our maps: a tunnel that is not connected yet
   * may serve it, and what it carries must not be cut. Until that one is back its way in waits, and is not undone.
   */
  inherited = false;
  readonly #steps: PodRunner;
  readonly #slots: Slots;
  readonly #backoff: Backoff;
  readonly #onChange: (pod: MeshPod) => void;
  #generation = 0;
  #attempts = 0;
  #abort: AbortController | undefined;
  #running: Promise<void> = Promise.resolve();
  #retry: NodeJS.Timeout | undefined;
  #closed = false;

  /** @param onChange after every change of state and every failure; may send events */
  constructor(subject: Subject, steps: PodRunner, slots: Slots, backoff: Backoff, onChange: (pod: MeshPod) => void) {
    this.subject = subject;
    this.#steps = steps;
    this.#slots = slots;
    this.#backoff = backoff;
    this.#onChange = onChange;
  }

  get state(): PodState {
    return this.#state;
  }

  get atRest(): boolean {
    return AT_REST.has(this.#state);
  }

  /** Active in the kernel and acknowledged by a tunnel, though the annotation may still be on its way. */
  get captured(): boolean {
    return this.subject.datapath === 'active' && (this.#state === 'enrolled' || this.#state === 'announcing');
  }

  /** Failures one after another, since it was last in or out of the mesh. */
  get attempts(): number {
    return this.#attempts;
  }

  send(event: PodEvent): void {
    if (event === 'tunnelGone' && this.inherited) return; // its way in learns of it by itself, and waits
    const next = this.#closed ? undefined : transition(this.#state, event);
    if (next !== undefined) this.enter(next);
  }

  /** For the start of the agent, where the kernel says in which state a pod is. */
  enter(next: Transition): void {
    clearTimeout(this.#retry);
    if (this.#state !== next.state) this.since = new Date();
    this.#state = next.state;
    const generation = ++this.#generation;
    this.#abort?.abort();
    if (next.state === 'enrolled' || next.state === 'out') this.#attempts = 0;
    if (next.state === 'announcing' || next.state === 'out') this.inherited = false;
    if (next.state === 'pending') this.#retryLater();
    const { outcome } = next;
    if (outcome !== undefined) this.#running = this.#running.then(() => this.#runList(next.actions, outcome, generation));
    this.#onChange(this);
  }

  /** Retries now what waits for its back-off. */
  retryNow(): void {
    this.send('retry');
  }

  /** Stops retrying; what runs is awaited. Nothing is undone: pins outlive the agent. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#generation++;
    clearTimeout(this.#retry);
    this.#abort?.abort();
    await this.#running;
  }

  async #runList(actions: readonly Action[], outcome: PodEvent, generation: number): Promise<void> {
    const abort = new AbortController();
    this.#abort = abort;
    try {
      for (const action of actions) {
        if (generation !== this.#generation) return; // another list took its place
        const run = (): Promise<void> => this.#steps.run(action, this.subject, abort.signal);
        await (WITHOUT_SLOT.has(action) ? run() : this.#slots.run(run));
      }
    } catch (error) {
      if (generation !== this.#generation) return;
      this.#fail(
        error instanceof CulvertError
          ? error
          : new CulvertError('SYSTEM', `enrol pod ${this.subject.namespace}/${this.subject.name}`, error),
      );
      return;
    }
    if (generation !== this.#generation) return;
    if (outcome !== 'undone') this.error = undefined; // undone: the reason why stays to be read
    this.send(outcome);
  }

  #fail(error: CulvertError): void {
    this.error = error;
    this.#attempts++;
    const before = this.#generation;
    if (!(this.inherited && error.code === 'ZDS_NO_TUNNEL')) this.send('failed');
    if (this.#generation !== before || this.#closed) return;
    // No way back from here (leaving, announcing, undoing, inherited): it is repeated until it succeeds, whatever the error says.
    this.#retry = setTimeout(() => {
      this.send('retry');
    }, this.#delay());
    this.#onChange(this);
  }

  #retryLater(): void {
    if (this.error?.retryable === false) return; // until the source or the plugin says something new
    this.#retry = setTimeout(() => {
      this.send('retry');
    }, this.#delay());
  }

  #delay(): number {
    return Math.min(this.#backoff.maxMs, this.#backoff.firstMs * 2 ** Math.max(0, this.#attempts - 1));
  }
}
