/** Who is let in, what is refused, and how streams end; against a real gRPC server. */
import { status } from '@grpc/grpc-js';
import fc from 'fast-check';
import { afterEach, describe, expect, it } from 'vitest';
import { ADDRESS_TYPE, AUTHORIZATION_TYPE } from '../../../../src/rpc/services.ts';
import { namesIn, type AdsClient } from './client.ts';
import { AdsWorld } from './world.ts';

let world: AdsWorld;
afterEach(() => world.stop());

/** Somebody else's stream still works. */
async function goesOn(client: AdsClient): Promise<void> {
  const name = `after-${Math.random()}`;
  world.set({ name });
  await client.until((one) => one === name);
}

async function bystander(): Promise<AdsClient> {
  const client = world.client();
  client.send();
  await client.take();
  return client;
}

describe('callers', () => {
  it.each([
    ['', status.UNAUTHENTICATED, 'accept token: the call needs one header "authorization: Bearer …"'],
    ['expired', status.UNAUTHENTICATED, 'review token: it has expired'],
    ['web', status.PERMISSION_DENIED, 'authorize shop/web: may not watch the mesh'],
    ['outage', status.UNAVAILABLE, 'callers cannot be authenticated at present'],
  ])('with token "%s" are refused with the reason', async (token, code, details) => {
    world = await AdsWorld.start();
    const client = world.client(token);
    client.send();
    expect(await client.ended()).toMatchObject({ code, details });
    expect(world.ads.counters()).toMatchObject({ streams: 0, refused: 1, responses: 0 });
    expect(world.lines).toContainEqual(expect.objectContaining({ msg: 'xDS caller refused' }));
  });
});

describe('bad requests', () => {
  it('end their own stream with the reason', async () => {
    world = await AdsWorld.start();
    const other = await bystander();
    const garbage = world.client();
    garbage.bytes(Buffer.from('ffffffff00ff', 'hex'));
    expect(await garbage.ended()).toMatchObject({
      code: status.INVALID_ARGUMENT,
      details: expect.stringContaining('read request') as string,
    });
    const nameless = world.client();
    nameless.send({ node: { id: '' } });
    expect(await nameless.ended()).toMatchObject({ code: status.INVALID_ARGUMENT, details: 'read first request: no node in it' });
    const greedy = world.client();
    greedy.send({ resourceNamesSubscribe: Array.from({ length: 100_001 }, (_, i) => `n${i}`) });
    expect(await greedy.ended()).toMatchObject({ code: status.RESOURCE_EXHAUSTED });
    await goesOn(other);
  });

  it('a type that is not served is answered with nothing, once', async () => {
    world = await AdsWorld.start();
    world.set({ name: 'a' });
    const client = world.client();
    const typeUrl = 'type.googleapis.com/envoy.config.cluster.v3.Cluster';
    client.send({ typeUrl });
    const answer = await client.take();
    expect(answer).toMatchObject({ typeUrl, resources: [], removedResources: [] });
    client.send({ typeUrl });
    client.send();
    expect(namesIn(await client.take())).toEqual(['a']);
    expect(world.lines).toContainEqual(expect.objectContaining({ type: typeUrl }));
  });

  it('no sequence of requests does harm', async () => {
    world = await AdsWorld.start();
    const other = await bystander();
    const name = fc.constantFrom('*', 'a', 'b', '/10.0.0.1', 'shop/web', '', '__proto__', 'constructor');
    const request = fc.record(
      {
        typeUrl: fc.constantFrom(ADDRESS_TYPE, AUTHORIZATION_TYPE, 'x', ''),
        resourceNamesSubscribe: fc.array(name, { maxLength: 3 }),
        resourceNamesUnsubscribe: fc.array(name, { maxLength: 3 }),
        initialResourceVersions: fc.dictionary(name, fc.constantFrom('', 'v')),
        responseNonce: fc.constantFrom('', '1', '2', '3', 'x'),
        errorDetail: fc.record({ code: fc.nat(20), message: fc.string() }),
      },
      { requiredKeys: [] },
    );
    const step = fc.oneof(
      { weight: 6, arbitrary: request },
      { weight: 1, arbitrary: fc.uint8Array({ maxLength: 20 }) },
      { weight: 2, arbitrary: fc.constantFrom('ack', 'nack', 'change', 'remove') },
    );
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 15 }), async (steps) => {
        const client = world.client();
        for (const one of steps) {
          if (one instanceof Uint8Array) client.bytes(Buffer.from(one));
          else if (one === 'change')
            world.set({ name: 'a', text: String(Math.random()), aliases: ['/10.0.0.1'], services: ['b'] }, { name: 'b' });
          else if (one === 'remove') world.remove('a');
          else if (one === 'ack' || one === 'nack') {
            for (const response of client.responses) client.ack(response, one === 'nack' ? 'no' : undefined);
            await new Promise((resolve) => setImmediate(resolve));
          } else client.send(one);
        }
        client.halfClose();
        await client.ended();
        client.close();
      }),
      { numRuns: 60 },
    );
    await goesOn(other);
    other.halfClose();
    await other.ended();
  });
});

describe('the end of a stream', () => {
  it('a client that leaves is forgotten', async () => {
    world = await AdsWorld.start();
    const [leaves, stays, closes] = [await bystander(), await bystander(), await bystander()];
    expect(world.ads.sessions()).toHaveLength(3);
    leaves.close();
    closes.halfClose();
    expect(await closes.ended()).toMatchObject({ code: status.OK });
    while (world.ads.sessions().length > 1) await new Promise((resolve) => setImmediate(resolve));
    await goesOn(stays);
  });

  it('comes by age, as a normal one: the client resumes', async () => {
    world = await AdsWorld.start({ maxAgeMs: 30 });
    world.set({ name: 'a' });
    const client = world.client();
    client.send();
    const { resources } = await client.take();
    expect(await client.ended()).toMatchObject({ code: status.OK });
    const again = world.client();
    again.send({ initialResourceVersions: { a: resources[0]!.version } });
    expect(await again.take()).toMatchObject({ resources: [], removedResources: [] });
  });

  it('comes with the server, also to those who wait to be let in', async () => {
    world = await AdsWorld.start();
    const client = await bystander();
    world.ads.close();
    expect(await client.ended()).toMatchObject({ code: status.UNAVAILABLE, details: 'control is shutting down' });
    const late = world.client();
    late.send();
    expect(await late.ended()).toMatchObject({ code: status.UNAVAILABLE });
  });
});

describe('status', () => {
  it('tells who is connected and how far it is', async () => {
    world = await AdsWorld.start();
    world.set({ name: 'a' });
    const client = world.client();
    client.send();
    client.send({ typeUrl: AUTHORIZATION_TYPE });
    const first = await client.take();
    client.ack(await client.next(), 'will not have it');
    while (world.ads.counters().nacks === 0) await new Promise((resolve) => setImmediate(resolve));
    expect(world.ads.sessions()).toEqual([
      {
        ...{ id: expect.stringContaining('ztunnel~') as string, node: 'node-a', account: 'istio-system/ztunnel' },
        ...{ peer: expect.stringContaining('127.0.0.1') as string, since: expect.any(Date) as Date },
        types: {
          address: { wildcard: true, acked: first.nonce, inFlight: false, waiting: 0, nacks: 0 },
          authorization: { wildcard: true, acked: '', inFlight: false, waiting: 0, nacks: 1, refused: 'will not have it' },
        },
      },
    ]);
    expect(world.ads.counters().bytes).toBeGreaterThan(0);
  });
});
