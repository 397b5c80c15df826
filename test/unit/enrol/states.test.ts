import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  afterRestart,
  AT_REST,
  POD_EVENTS,
  POD_STATES,
  transition,
  type Action,
  type PodEvent,
  type PodState,
  type Transition,
} from '../../../src/enrol/states.ts';

const OUTSIDE: PodEvent[] = ['wanted', 'unwanted', 'deleted', 'netnsGone', 'retry', 'tunnelGone', 'overwritten'];

/** A pod as the table drives it, and what kernel and tunnel would hold of it. */
class Model {
  state: PodState = 'out';
  list: Action[] = [];
  outcome: PodEvent | undefined;
  acked = false;
  active = false;
  annotated = false;
  trace: string[] = [];

  enter(t: Transition): void {
    this.state = t.state;
    if (t.actions.length > 0 || t.outcome !== undefined) {
      this.list = [...t.actions];
      this.outcome = t.outcome;
    } else {
      this.list = [];
      this.outcome = undefined;
    }
  }
  send(event: PodEvent): void {
    this.trace.push(event);
    const t = transition(this.state, event);
    if (t !== undefined) this.enter(t);
  }
  /** the next action of the running list ends, well or badly */
  step(ok: boolean): void {
    if (this.outcome === undefined) return;
    const action = this.list.shift();
    if (action !== undefined && !ok) {
      this.trace.push(`${action} failed`);
      this.list = [];
      this.outcome = undefined;
      this.send('failed');
      return;
    }
    if (action !== undefined) this.apply(action);
    if (this.list.length === 0) {
      const outcome = this.outcome;
      this.outcome = undefined;
      this.send(outcome);
    }
  }
  apply(action: Action): void {
    this.trace.push(action);
    if (action === 'zdsAdd') this.acked = true;
    if (action === 'activate') {
      expect(this.acked, `active without ack: ${this.trace.join(' ')}`).toBe(true);
      this.active = true;
    }
    if (action === 'annotateEnabled') {
      expect(this.active, `announced before active: ${this.trace.join(' ')}`).toBe(true);
      this.annotated = true;
    }
    if (action === 'annotateOff' || action === 'annotatePending') this.annotated = false;
    if (action === 'drain') this.active = false;
    if (action === 'zdsDel') {
      expect(this.active, `tunnel ended what is still captured: ${this.trace.join(' ')}`).toBe(false);
      this.acked = false;
    }
    if (action === 'remove') expect(this.active, `removed while active: ${this.trace.join(' ')}`).toBe(false);
  }
  /** everything succeeds from here on, and back-offs end */
  settle(): void {
    for (let i = 0; i < 100 && !AT_REST.has(this.state); i++) {
      if (this.outcome === undefined) this.send('retry');
      else this.step(true);
    }
  }
}

type Stimulus = { event: PodEvent } | { step: boolean };
const stimulus: fc.Arbitrary<Stimulus> = fc.oneof(
  { weight: 2, arbitrary: fc.constantFrom(...OUTSIDE).map((event) => ({ event })) },
  { weight: 5, arbitrary: fc.boolean().map((step) => ({ step })) },
  { weight: 5, arbitrary: fc.constant({ step: true }) },
);

function play(model: Model, stimuli: Stimulus[]): void {
  for (const s of stimuli) {
    if ('event' in s) model.send(s.event);
    else model.step(s.step);
  }
}

describe('pod states', () => {
  it('walk in and out in the order of the design', () => {
    const model = new Model();
    model.send('wanted');
    model.settle();
    expect(model.state).toBe('enrolled');
    model.send('unwanted');
    model.settle();
    expect(model.state).toBe('out');
    expect(model.trace).toEqual([
      'wanted',
      'prepare',
      'prepared',
      'zdsAdd',
      'acked',
      'activate',
      'annotateEnabled',
      'announced',
      'unwanted',
      'drain',
      'annotateOff',
      'grace',
      'drained',
      'zdsDel',
      'remove',
      'removed',
    ]);
  });

  it('never activate without an ack, never end what is captured, always come to rest', () => {
    fc.assert(
      fc.property(fc.array(stimulus, { maxLength: 60 }), (stimuli) => {
        const model = new Model();
        play(model, stimuli);
        model.settle();
        expect(AT_REST.has(model.state), `${model.state}: ${model.trace.join(' ')}`).toBe(true);
        if (model.state === 'out') expect([model.acked, model.active, model.annotated]).toEqual([false, false, false]);
        if (model.state === 'pending') expect([model.acked, model.active, model.annotated]).toEqual([false, false, false]);
        if (model.state === 'enrolled') expect([model.acked, model.active, model.annotated]).toEqual([true, true, true]);
      }),
      { numRuns: 2000 },
    );
  });

  it('end where the last wish wants them, whatever happened before', () => {
    fc.assert(
      fc.property(fc.array(stimulus, { maxLength: 40 }), fc.boolean(), (stimuli, wanted) => {
        const model = new Model();
        play(model, stimuli);
        // the agent repeats the wish whenever the pod is at rest
        for (let i = 0; i < 4; i++) {
          model.send(wanted ? 'wanted' : 'unwanted');
          if (wanted) model.send('retry');
          model.settle();
        }
        expect(model.state, model.trace.join(' ')).toBe(wanted ? 'enrolled' : 'out');
      }),
      { numRuns: 1000 },
    );
  });

  it('do nothing at a duplicate', () => {
    for (const event of ['wanted', 'tunnelGone', 'acked', 'removed'] as const) expect(transition('enrolled', event)).toBeUndefined();
    for (const event of ['unwanted', 'deleted', 'netnsGone', 'retry'] as const) expect(transition('out', event)).toBeUndefined();
    // an outside event is the same twice: the second finds a state that has it done already, or starts the same list again
    for (const state of POD_STATES) {
      for (const event of OUTSIDE) {
        const once = transition(state, event);
        if (once === undefined) continue;
        const twice = transition(once.state, event);
        if (twice !== undefined) expect([state, event, twice.state]).toEqual([state, event, once.state]);
      }
    }
  });

  it('go on after a restart in any state, without touching what is live', () => {
    fc.assert(
      fc.property(
        fc.constantFrom('none', 'prepared', 'active', 'draining'),
        fc.boolean(),
        fc.boolean(),
        fc.array(stimulus, { maxLength: 20 }),
        (datapath, wanted, annotated, stimuli) => {
          const model = new Model();
          model.acked = datapath === 'active' || datapath === 'draining';
          model.active = datapath === 'active';
          model.annotated = annotated;
          const first = afterRestart(datapath, wanted, annotated);
          if (datapath === 'active' && wanted) expect(first.actions).toEqual(['reconcile']);
          model.enter(first);
          play(model, stimuli);
          for (let i = 0; i < 4; i++) {
            model.send(wanted ? 'wanted' : 'unwanted');
            if (wanted) model.send('retry');
            model.settle();
          }
          expect(model.state, model.trace.join(' ')).toBe(wanted ? 'enrolled' : 'out');
          if (!wanted) expect([model.active, model.annotated]).toEqual([false, false]);
        },
      ),
      { numRuns: 1000 },
    );
  });

  it('name only events and states that exist', () => {
    expect(POD_EVENTS.filter((event) => POD_STATES.every((state) => transition(state, event) === undefined))).toEqual([]);
  });
});
