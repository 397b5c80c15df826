/** Whatever happens in whatever order: a client that goes on acknowledging ends with what the store holds. */
import { create, fromBinary, type MessageInitShape } from '@bufbuild/protobuf';
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { Batch } from '../../../../src/control/ads/batch.ts';
import { Responses } from '../../../../src/control/ads/responses.ts';
import { Subscription } from '../../../../src/control/ads/subscription.ts';
import { ResourceStore } from '../../../../src/control/resource-store.ts';
import { DeltaDiscoveryRequestSchema, DeltaDiscoveryResponseSchema } from '../../../../src/proto/discovery_pb.js';

const NODE = 'node-a';

/** A server and a client with nothing but time between them: what is sent arrives with its acknowledgement. */
class Stream {
  readonly store = new ResourceStore();
  readonly held = new Map<string, string>();
  readonly #responses = new Responses(this.store);
  #pending = new Batch();
  #subscription: Subscription;
  #inFlight: Buffer | undefined;

  constructor(request: Request) {
    this.store.onChange((change) => this.#pending.add(change));
    this.#subscription = this.#open(request);
  }

  /** The connection breaks, with what was on its way. */
  resume(request: Request): void {
    this.#inFlight = undefined;
    this.#subscription = this.#open({ ...request, initialResourceVersions: Object.fromEntries(this.held) });
  }

  update(request: Request): void {
    this.push();
    this.#subscription.update(create(DeltaDiscoveryRequestSchema, request));
    this.#send();
  }

  push(): void {
    this.#flush();
    this.#send();
  }

  acknowledge(): void {
    if (this.#inFlight === undefined) return;
    const { resources, removedResources } = fromBinary(DeltaDiscoveryResponseSchema, this.#inFlight);
    this.#inFlight = undefined;
    for (const name of removedResources) this.held.delete(name);
    for (const { name, version } of resources) this.held.set(name, version);
    this.#send();
  }

  settle(): void {
    this.push();
    while (this.#inFlight !== undefined) this.acknowledge();
  }

  #flush(): void {
    const batch = this.#pending;
    this.#pending = new Batch();
    if (!batch.empty) this.#subscription.changed(batch);
  }

  #open(request: Request): Subscription {
    this.#pending = new Batch();
    const subscription = new Subscription('address', this.store, NODE);
    subscription.open(create(DeltaDiscoveryRequestSchema, request));
    this.#subscription = subscription;
    this.#send();
    return subscription;
  }

  #send(): void {
    const subscription = this.#subscription;
    if (this.#inFlight !== undefined || !subscription.due) return;
    if (subscription.readsAhead) this.#flush();
    this.#inFlight = this.#responses.of('address', subscription.take()).bytes;
  }
}

type Request = Exclude<MessageInitShape<typeof DeltaDiscoveryRequestSchema>, { $typeName: unknown }>;

const NAMES = ['a', 'b', 'c', 'svc'];
const set = fc.record({
  name: fc.constantFrom(...NAMES),
  text: fc.constantFrom('1', '2', '3'),
  alias: fc.constantFrom('/10.0.0.1', '/10.0.0.2'),
  node: fc.constantFrom(NODE, 'node-b'),
  behind: fc.boolean(),
});
const asked = fc.constantFrom(...NAMES, '/10.0.0.1', '/10.0.0.2', 'nobody');
const step = fc.oneof(
  { weight: 4, arbitrary: set.map((one) => ({ do: 'set' as const, one })) },
  { weight: 2, arbitrary: fc.constantFrom(...NAMES).map((name) => ({ do: 'remove' as const, name })) },
  { weight: 3, arbitrary: fc.constant({ do: 'push' as const }) },
  { weight: 3, arbitrary: fc.constant({ do: 'acknowledge' as const }) },
  { weight: 1, arbitrary: fc.constant({ do: 'resume' as const }) },
  { weight: 1, arbitrary: asked.map((name) => ({ do: 'ask' as const, name })) },
);

function play(stream: Stream, steps: readonly (typeof step extends fc.Arbitrary<infer S> ? S : never)[], first: Request): Set<string> {
  const names = new Set<string>();
  for (const one of steps) {
    if (one.do === 'set') {
      const { name, alias, node, behind } = one.one;
      const content = { message: Buffer.from(JSON.stringify(one.one)), aliases: [alias], node: name === 'svc' ? '' : node };
      stream.store.apply('address', [{ ...content, name, services: behind && name !== 'svc' ? ['svc'] : [] }], []);
    } else if (one.do === 'remove') stream.store.apply('address', [], [one.name]);
    else if (one.do === 'ask') {
      names.add(one.name);
      stream.update({ resourceNamesSubscribe: [one.name] });
    } else if (one.do === 'resume') {
      names.clear();
      for (const name of stream.held.keys()) names.add(name); // what it still has counts as asked for
      stream.resume(first);
    } else stream[one.do]();
  }
  stream.settle();
  return names;
}

it('everything', () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
      const stream = new Stream({});
      play(stream, steps, {});
      expect([...stream.held].sort()).toEqual([...stream.store.all('address')].map(({ name, version }) => [name, version]).sort());
    }),
    { numRuns: 2000 },
  );
});

it('on demand: what was asked for, what is behind it, and the pods of the own node; all that it holds is current', () => {
  const nothing: Request = { resourceNamesSubscribe: ['*'], resourceNamesUnsubscribe: ['*'] };
  fc.assert(
    fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
      const stream = new Stream(nothing);
      const names = play(stream, steps, nothing);
      for (const [name, version] of stream.held) expect(stream.store.get('address', name)?.version).toBe(version);
      for (const { name, aliases, node, services } of stream.store.all('address')) {
        const wanted = names.has(name) || aliases.some((one) => names.has(one)) || node === NODE;
        const behind = services.some((service) => stream.held.has(service) && names.has(service));
        if (wanted || behind) expect([name, stream.held.has(name)]).toEqual([name, true]);
      }
    }),
    { numRuns: 2000 },
  );
});
