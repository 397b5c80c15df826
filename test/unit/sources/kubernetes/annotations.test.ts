import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { createLogger } from '../../../../src/base/log.ts';
import type { KubeApi, KubeObject } from '../../../../src/kubernetes/api.ts';
import { KubernetesError } from '../../../../src/kubernetes/errors.ts';
import { createKubernetesSource } from '../../../../src/sources/kubernetes/source.ts';
import type { Source } from '../../../../src/sources/source.ts';
import { ModelCluster, podObject } from '../../../support/kubernetes/model-cluster.ts';
import { until } from '../../../support/kubernetes/until.ts';

const KEY = 'ambient.istio.io/redirection';
const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
const turns = async (count: number): Promise<void> => {
  for (let i = 0; i < count; i++) await turn();
};

/** How the API takes a write: after so many turns it is done, or not; after so many more it is answered. */
interface Answer {
  before: number;
  after: number;
  outcome: 'done' | 'lost' | 'done, not told';
}
const DONE: Answer = { before: 0, after: 0, outcome: 'done' };

class World {
  readonly cluster = new ModelCluster();
  readonly source: Source;
  /** of each write in turn; then all are done at once */
  answers: Answer[] = [];
  asked = 0;
  /** at once: all, and those for one pod */
  most = { all: 0, pod: 0 };
  readonly #now = new Map<string, number>();
  readonly #watch: { close(): void };

  constructor(names: readonly string[]) {
    this.cluster.put('namespaces', { metadata: { name: 'shop' } });
    for (const name of names) this.cluster.put('pods', podObject({ namespace: 'shop', name, uid: `u-${name}` }));
    const api: ModelCluster['api'] = { ...this.cluster.api, patch: this.#patch };
    this.source = createKubernetesSource({ api: api as KubeApi, node: 'node1', log: createLogger('test', 'silent') });
    this.#watch = this.source.watch(
      () => undefined,
      (error) => expect.unreachable(error.message),
    );
  }

  async started(): Promise<void> {
    const ready = (): boolean => this.source.synced() && this.cluster.watching('pods');
    for (let i = 0; i < 10 && !ready(); i++) await turn();
    await until('the watch', ready);
  }

  annotate(name: string, value: string | undefined, uid = `u-${name}`): Promise<void> {
    return this.source.annotate({ uid, namespace: 'shop', name }, KEY, value);
  }

  value(name: string): string | undefined {
    return this.cluster.get('pods', `shop/${name}`)?.metadata.annotations?.[KEY];
  }

  /** The watch catches up. */
  async caughtUp(): Promise<void> {
    while (this.cluster.step('pods'));
    await turns(3);
  }

  close(): void {
    this.#watch.close();
    this.source.close?.();
  }

  readonly #patch = async (path: string, body: unknown): Promise<KubeObject> => {
    this.asked++;
    const answer = this.answers.shift() ?? DONE;
    const now = (this.#now.get(path) ?? 0) + 1;
    this.#now.set(path, now);
    const all = [...this.#now.values()].reduce((sum, each) => sum + each);
    this.most = { all: Math.max(this.most.all, all), pod: Math.max(this.most.pod, now) };
    try {
      await turns(answer.before);
      if (answer.outcome === 'lost') throw new KubernetesError('patch: no answer within 10 s', { status: 0 });
      const written = await this.cluster.api.patch(path, body, 'merge');
      await turns(answer.after);
      if (answer.outcome !== 'done') throw new KubernetesError('patch: no answer within 10 s', { status: 0 });
      return written;
    } finally {
      this.#now.set(path, (this.#now.get(path) ?? 0) - 1);
    }
  };
}

describe('annotations of pods', () => {
  it('are written once, and not again when the watch has brought them back', async () => {
    const world = new World(['a']);
    await world.started();
    await world.annotate('a', undefined);
    expect(world.asked).toBe(0); // it has none
    await world.annotate('a', 'enabled');
    expect([world.value('a'), world.asked]).toEqual(['enabled', 1]);
    await world.annotate('a', 'enabled'); // the watch still says otherwise
    await world.annotate('a', undefined); // and this is what it says
    expect([world.value('a'), world.asked]).toEqual([undefined, 3]);
    await world.annotate('a', 'enabled');
    await world.caughtUp();
    await world.annotate('a', 'enabled');
    expect([world.value('a'), world.asked]).toEqual(['enabled', 4]);
    world.close();
  });

  it('are written when the last write was lost, or nobody knows', async () => {
    const world = new World(['a']);
    await world.started();
    world.answers = [{ ...DONE, outcome: 'done, not told' }];
    await expect(world.annotate('a', 'enabled')).rejects.toMatchObject({ code: 'KUBERNETES', status: 0, retryable: true });
    await world.annotate('a', undefined); // what the watch says, though it is not so
    expect(world.value('a')).toBeUndefined();
    world.close();
  });

  it('are set back when somebody else changes them, or a write that was given up is done late', async () => {
    const world = new World(['a']);
    await world.started();
    await world.annotate('a', 'enabled');
    await world.caughtUp();
    const foreign = { metadata: { uid: 'u-a', annotations: { [KEY]: null, 'culvert.dev/other': 'x' } } };
    await world.cluster.api.patch('/api/v1/namespaces/shop/pods/a/status', foreign, 'merge');
    expect(world.value('a')).toBeUndefined();
    await world.caughtUp();
    await until('it to be set back', () => world.value('a') === 'enabled');
    await world.caughtUp();

    world.answers = [{ ...DONE, outcome: 'lost' }];
    await expect(world.annotate('a', 'pending')).rejects.toMatchObject({ status: 0 });
    await world.annotate('a', undefined);
    const late = { metadata: { uid: 'u-a', annotations: { [KEY]: 'pending' } } };
    await world.cluster.api.patch('/api/v1/namespaces/shop/pods/a/status', late, 'merge');
    await world.caughtUp();
    await until('it to be set back', () => world.value('a') === undefined);
    expect(world.cluster.get('pods', 'shop/a')?.metadata.annotations).toEqual({ 'culvert.dev/other': 'x' });
    world.close();
  });

  it('hit that very pod and no other; of a pod that is gone there is nothing to remove', async () => {
    const world = new World(['a']);
    await world.started();
    await expect(world.annotate('a', 'enabled', 'u-old')).rejects.toMatchObject({ status: 422, retryable: false });
    await world.annotate('a', undefined, 'u-old');
    expect(world.value('a')).toBeUndefined();
    await world.annotate('a', 'enabled');
    await world.caughtUp();
    world.cluster.remove('pods', 'shop/a'); // the watch still has it, enabled
    await expect(world.annotate('a', 'pending')).rejects.toMatchObject({ status: 404 });
    await expect(world.annotate('a', 'enabled')).rejects.toMatchObject({ status: 404 });
    await world.annotate('a', undefined);
    world.close();
  });

  it('of many pods are written side by side, but not all at once', async () => {
    const names = Array.from({ length: 60 }, (_, index) => `p${index}`);
    const world = new World(names);
    await world.started();
    world.answers = names.map(() => ({ ...DONE, before: 2 }));
    await Promise.all(names.map((name) => world.annotate(name, 'enabled')));
    expect(names.map((name) => world.value(name))).toEqual(names.map(() => 'enabled'));
    expect(world.most).toEqual({ all: 16, pod: 1 });
    world.close();
  });

  it('are as the last word on each pod, however slow and deaf the API is', async () => {
    const answer = fc.record({ before: fc.nat(3), after: fc.nat(3), outcome: fc.constantFrom('done', 'done', 'lost', 'done, not told') });
    const deed = fc.oneof(
      fc.record({ name: fc.constantFrom('a', 'b'), value: fc.constantFrom('enabled', 'pending', undefined) }),
      fc.constantFrom('step' as const, 'turn' as const),
    );
    await fc.assert(
      fc.asyncProperty(
        fc.array(deed, { maxLength: 30 }),
        fc.array(answer as fc.Arbitrary<Answer>, { maxLength: 20 }),
        async (script, answers) => {
          const world = new World(['a', 'b']);
          await world.started();
          world.answers = answers;
          const last = new Map<string, string | undefined>();
          const writes: Promise<void>[] = [];
          for (const each of script) {
            if (each === 'step') world.cluster.step('pods');
            else if (each === 'turn') await turn();
            else {
              const { name, value } = each;
              last.set(name, value);
              const write = world.annotate(name, value).then(
                () => expect(world.value(name)).toBe(value), // it resolved: so it is, before the next one is even asked for
                (error: unknown) => expect(error).toBeInstanceOf(KubernetesError),
              );
              writes.push(write);
            }
          }
          await Promise.all(writes);
          expect(world.most.pod).toBeLessThanOrEqual(1);
          world.answers = [];
          for (const [name, value] of last) {
            await world.annotate(name, value); // as whoever was told of a failure does
            expect(world.value(name)).toBe(value);
          }
          await world.caughtUp();
          for (const [name, value] of last) expect(world.value(name)).toBe(value);
          world.close();
        },
      ),
      { numRuns: 150 },
    );
  });
});
