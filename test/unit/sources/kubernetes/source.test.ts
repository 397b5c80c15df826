/** The source against a model of the API: whatever is done, and in whatever order the two watches bring it. */
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createLogger } from '../../../../src/base/log.ts';
import type { KubeApi, KubeObject } from '../../../../src/kubernetes/api.ts';
import { createKubernetesSource } from '../../../../src/sources/kubernetes/source.ts';
import type { MeshSnapshot, PodRecord, Source } from '../../../../src/sources/source.ts';
import { ModelCluster, podObject, withStatus, type Collection } from '../../../support/kubernetes/model-cluster.ts';
import { until } from '../../../support/kubernetes/until.ts';

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
const COLLECTIONS = ['pods', 'namespaces'] as const;

class World {
  readonly cluster = new ModelCluster();
  readonly source: Source;
  readonly snapshots: MeshSnapshot[] = [];
  readonly errors: string[] = [];
  #watch: { close(): void } | undefined;
  #uids = 0;

  constructor() {
    const api = this.cluster.api as KubeApi;
    this.source = createKubernetesSource({ api, node: 'node1', log: createLogger('test', 'silent') });
  }

  /** Lists what is there now. */
  async start(): Promise<void> {
    this.#watch = this.source.watch(
      (snapshot) => this.snapshots.push(snapshot),
      (error) => this.errors.push(error.message),
    );
    await this.watching();
  }

  get last(): MeshSnapshot | undefined {
    return this.snapshots.at(-1);
  }

  pod(name: string): PodRecord | undefined {
    return [...(this.last?.pods.values() ?? [])].find((pod) => pod.name === name);
  }

  namespace(name: string, labels: Record<string, string> = {}): void {
    this.cluster.put('namespaces', { metadata: { name, labels } });
  }

  /** A pod of a new uid, in place of the one of its name. */
  create(namespace: string, name: string, labels: Record<string, string> = {}): KubeObject {
    this.cluster.remove('pods', `${namespace}/${name}`);
    return this.cluster.put('pods', podObject({ namespace, name, uid: `u${++this.#uids}`, labels }));
  }

  async watching(): Promise<void> {
    const both = (): boolean => COLLECTIONS.every((collection) => this.cluster.watching(collection));
    for (let i = 0; i < 10 && !both(); i++) await turn();
    await until('both watches', both);
    await turn();
    await turn();
  }

  /** Everything that happened is brought, and taken in. */
  async settle(): Promise<void> {
    await this.watching();
    for (const collection of COLLECTIONS) while (this.cluster.step(collection));
    for (let i = 0; i < 4; i++) await turn();
  }

  close(): void {
    this.#watch?.close();
    this.source.close?.();
  }
}

describe('kubernetes source', () => {
  let world: World;
  beforeEach(() => {
    world = new World();
  });
  afterEach(() => {
    world.close();
  });

  it('says nothing before both collections are known, then everything at once', async () => {
    world.namespace('shop', { 'istio.io/dataplane-mode': 'ambient' });
    world.create('shop', 'a');
    const { list } = world.cluster.api;
    const namespaces = Promise.withResolvers<boolean>();
    world.cluster.api.list = async (path) => {
      if (path.endsWith('/namespaces')) await namespaces.promise;
      return list(path);
    };
    const started = world.start();
    await until('the watch of pods', () => world.cluster.watching('pods'));
    for (let i = 0; i < 4; i++) await turn();
    expect([world.source.synced(), world.snapshots]).toEqual([false, []]);
    namespaces.resolve(true);
    await started;
    expect(world.snapshots).toHaveLength(1);
    expect(world.source.synced()).toBe(true);
    expect(world.last).toMatchObject({ trustDomain: '', services: new Map() });
    expect(world.last?.namespaces.get('shop')?.labels).toEqual({ 'istio.io/dataplane-mode': 'ambient' });
    expect(world.last?.pods.get('u1')).toMatchObject({ namespace: 'shop', name: 'a', serviceAccount: 'web', phase: 'Pending' });
  });

  it('puts what both watches bring in one turn into one snapshot, and leaves what did not change', async () => {
    world.namespace('shop');
    world.create('shop', 'a');
    const other = world.create('shop', 'b');
    await world.start();
    const before = world.last;
    world.namespace('shop', { team: 'x' });
    world.cluster.put('pods', withStatus(world.cluster.get('pods', 'shop/a')!, { phase: 'Running' }));
    world.cluster.put('pods', { ...other, spec: { ...(other['spec'] as object), priority: 1 } }); // of no interest
    await world.settle();
    expect(world.snapshots).toHaveLength(2);
    expect(world.last?.pods.get('u1')?.phase).toBe('Running');
    expect(world.last?.pods.get('u2')).toBe(before?.pods.get('u2'));
    world.cluster.put('pods', withStatus(world.cluster.get('pods', 'shop/b')!, { conditions: [] }));
    await world.settle();
    expect(world.snapshots).toHaveLength(2);
    world.namespace('shop', { team: 'y' });
    await world.settle();
    expect(world.last?.pods).toBe(world.snapshots[1]?.pods);
    expect(before?.namespaces.get('shop')?.labels).toEqual({}); // nothing that was delivered changes
  });

  it('holds back a pod that is faster than its namespace, and keeps one whose namespace goes first', async () => {
    await world.start();
    world.namespace('new', { 'istio.io/dataplane-mode': 'ambient' });
    world.create('new', 'a');
    world.cluster.step('pods');
    await turn();
    await turn();
    expect(world.pod('a')).toBeUndefined();
    await world.settle();
    expect(world.pod('a')).toBeDefined();
    world.cluster.remove('namespaces', 'new');
    await world.settle();
    expect(world.last?.namespaces.has('new')).toBe(false);
    expect(world.pod('a')).toBeDefined();
    world.cluster.remove('pods', 'new/a');
    await world.settle();
    expect(world.pod('a')).toBeUndefined();
  });

  it('remembers the addresses of a pod that has ended, and of that one only', async () => {
    world.namespace('shop');
    const pod = world.create('shop', 'job');
    await world.start();
    world.cluster.put('pods', withStatus(pod, { phase: 'Running', podIPs: [{ ip: '10.0.0.1' }] }));
    await world.settle();
    world.cluster.put('pods', withStatus(pod, { phase: 'Succeeded', podIPs: [] }));
    world.create('shop', 'next');
    world.cluster.put('pods', withStatus(world.cluster.get('pods', 'shop/next')!, { phase: 'Running', podIPs: [{ ip: '10.0.0.1' }] }));
    await world.settle();
    expect([world.pod('job')?.ips, world.pod('job')?.phase]).toEqual([['10.0.0.1'], 'Succeeded']);
    expect(world.pod('next')?.ips).toEqual(['10.0.0.1']);
    world.cluster.cut('pods');
    const again = world.create('shop', 'job');
    world.cluster.put('pods', withStatus(again, { phase: 'Failed' }));
    world.cluster.forget(); // the old one is not even told to be gone
    await world.settle();
    expect(world.pod('job')).toMatchObject({ uid: again.metadata.uid, ips: [] });
    expect(world.last?.pods.size).toBe(2);
  });

  it('keeps the last good state of an object that cannot be read, but not that of another pod', async () => {
    world.namespace('shop');
    const pod = world.create('shop', 'a');
    await world.start();
    world.cluster.put('pods', { ...pod, status: { phase: 'Odd' } });
    world.namespace('shop', { x: 7 } as never);
    await world.settle();
    expect(world.errors).toEqual([
      expect.stringContaining('read Pod shop/a: status.phase'),
      expect.stringContaining('read Namespace shop: metadata.labels'),
    ]);
    expect(world.pod('a')?.phase).toBe('Pending');
    world.cluster.cut('pods');
    world.cluster.put('pods', { ...world.create('shop', 'a'), status: { phase: 'Odd' } });
    world.cluster.forget();
    await world.settle();
    await until('the old one to go', () => world.pod('a') === undefined);
    expect(world.errors).toHaveLength(3);
  });
});

// Names and addresses are few, so that they meet again.
const NAMES = ['a', 'b'] as const;
const SPACES = ['shop', 'other'] as const;
const IPS = ['10.0.0.1', '10.0.0.2', 'fd00::1'] as const;
const key = fc.tuple(fc.constantFrom(...SPACES), fc.constantFrom(...NAMES));

type Deed =
  | { do: 'namespace' | 'remove namespace'; name: string }
  | { do: 'create' | 'end' | 'label' | 'remove'; pod: readonly [string, string] }
  | { do: 'run'; pod: readonly [string, string]; ips: readonly string[] }
  | { do: 'step' | 'cut'; collection: Collection }
  | { do: 'turn' | 'forget' };

const deeds = (gaps: boolean): fc.Arbitrary<Deed[]> => {
  const step = fc.record({ do: fc.constant('step' as const), collection: fc.constantFrom(...COLLECTIONS) });
  const turns = fc.constant({ do: 'turn' as const });
  return fc.array(
    fc.oneof<fc.Arbitrary<Deed>[]>(
      fc.record({
        do: fc.constantFrom('namespace' as const, 'namespace' as const, 'remove namespace' as const),
        name: fc.constantFrom(...SPACES),
      }),
      fc.record({
        do: fc.constantFrom('create' as const, 'create' as const, 'end' as const, 'label' as const, 'remove' as const),
        pod: key,
      }),
      fc.record({ do: fc.constant('run' as const), pod: key, ips: fc.uniqueArray(fc.constantFrom(...IPS), { maxLength: 2 }) }),
      ...[step, step, step, turns],
      ...(gaps
        ? [
            fc.record({ do: fc.constant('cut' as const), collection: fc.constantFrom(...COLLECTIONS) }),
            fc.constant({ do: 'forget' as const }),
          ]
        : []),
    ),
    { maxLength: 60 },
  );
};

interface Version {
  phase: string;
  ips: string[];
  /** what whoever saw every version says: an ended pod has those that it had */
  told: string[];
}

/** Every version of every pod that the API ever had, by a number that grows and is a label of it. */
class Chronicle {
  readonly #versions = new Map<string, Map<number, Version>>();
  readonly #last = new Map<string, Version>();
  #number = 0;

  next(): Record<string, string> {
    return { number: String(++this.#number) };
  }

  /** @param object labelled with the present number */
  note({ metadata: { uid = '' }, status }: KubeObject): void {
    const { phase, podIPs } = status as { phase: string; podIPs: { ip: string }[] };
    const ips = podIPs.map(({ ip }) => ip);
    const told = phase === 'Succeeded' && ips.length === 0 ? (this.#last.get(uid)?.told ?? []) : ips;
    const version = { phase, ips, told };
    this.#last.set(uid, version);
    const all = this.#versions.get(uid) ?? new Map<number, Version>();
    this.#versions.set(uid, all.set(this.#number, version));
  }

  version(uid: string, number: number): Version | undefined {
    return this.#versions.get(uid)?.get(number);
  }

  /** All that were told up to this version. */
  told(uid: string, number: number): string[][] {
    return [...(this.#versions.get(uid) ?? [])].filter(([each]) => each <= number).map(([, { told }]) => told);
  }
}

/** @param gaps versions may be missed */
async function play(script: readonly Deed[], gaps: boolean): Promise<void> {
  const world = new World();
  const chronicle = new Chronicle();
  const { cluster } = world;
  const change = (object: KubeObject | undefined, status: object): void => {
    if (object === undefined) return;
    const { metadata } = object;
    chronicle.note(cluster.put('pods', withStatus({ ...object, metadata: { ...metadata, labels: chronicle.next() } }, status)));
  };
  try {
    world.namespace('shop', chronicle.next());
    await world.start();
    for (const deed of script) {
      const pod = 'pod' in deed ? cluster.get('pods', deed.pod.join('/')) : undefined;
      if (deed.do === 'namespace') world.namespace(deed.name, chronicle.next());
      else if (deed.do === 'remove namespace') cluster.remove('namespaces', deed.name);
      else if (deed.do === 'create') chronicle.note(world.create(...deed.pod, chronicle.next()));
      else if (deed.do === 'run') change(pod, { phase: 'Running', podIPs: deed.ips.map((ip) => ({ ip })) });
      else if (deed.do === 'end') change(pod, { phase: 'Succeeded', podIPs: [] });
      else if (deed.do === 'label') change(pod, {});
      else if (deed.do === 'remove') cluster.remove('pods', deed.pod.join('/'));
      else if (deed.do === 'step') cluster.step(deed.collection);
      else if (deed.do === 'cut') cluster.cut(deed.collection);
      else if (deed.do === 'forget') cluster.forget();
      else await turn();
    }
    await world.settle();
    await world.settle(); // a watch that was cut came back meanwhile
    check(world, chronicle, gaps);
  } finally {
    world.close();
  }
}

function check({ cluster, snapshots, errors, last }: World, chronicle: Chronicle, gaps: boolean): void {
  const numbers = new Map<string, number>();
  for (const snapshot of snapshots) {
    const names = [...snapshot.pods.values()].map(({ namespace, name }) => `${namespace}/${name}`);
    expect(new Set(names).size).toBe(names.length);
    for (const [uid, record] of snapshot.pods) {
      const number = Number(record.labels['number']);
      const version = chronicle.version(uid, number);
      const known = numbers.get(uid);
      expect(version, `a version of ${uid}`).toBeDefined();
      expect(number, `the next version of ${uid}`).toBeGreaterThanOrEqual(known ?? 0);
      expect(record.phase).toBe(version?.phase);
      if (gaps && record.phase === 'Succeeded') expect([[], ...chronicle.told(uid, number)]).toContainEqual(record.ips);
      else expect(record.ips).toEqual(version?.told);
      expect(known !== undefined || snapshot.namespaces.has(record.namespace), `the namespace of ${uid}`).toBe(true);
      numbers.set(uid, number);
    }
  }
  const numbered = (name: string | undefined, labels: Record<string, string> | undefined): string => `${name} ${labels?.['number']}`;
  const exist = cluster
    .all('pods')
    .filter(({ metadata: { namespace = '', uid = '' } }) => numbers.has(uid) || cluster.get('namespaces', namespace) !== undefined);
  expect([...(last?.pods.values() ?? [])].map(({ uid, labels }) => numbered(uid, labels)).sort()).toEqual(
    exist.map(({ metadata: { uid, labels } }) => numbered(uid, labels)).sort(),
  );
  expect([...(last?.namespaces.values() ?? [])].map(({ name, labels }) => numbered(name, labels)).sort()).toEqual(
    cluster
      .all('namespaces')
      .map(({ metadata: { name, labels } }) => numbered(name, labels))
      .sort(),
  );
  expect(errors).toEqual([]);
}

describe('kubernetes source, whatever happens', () => {
  it('tells what is, in the order in which it came about', async () => {
    await fc.assert(
      fc.asyncProperty(deeds(false), (script) => play(script, false)),
      { numRuns: 300 },
    );
  });

  it('also when watches break and the server forgets where they were', async () => {
    // Side by side: each that breaks waits a while before it goes on.
    const plays = fc.sample(deeds(true), 150).map(async (script) => {
      try {
        await play(script, true);
      } catch (error) {
        throw new Error(JSON.stringify(script), { cause: error });
      }
    });
    await Promise.all(plays);
  });
});
