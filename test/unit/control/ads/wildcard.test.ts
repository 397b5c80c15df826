/** Streams that watch everything, against a real gRPC server. */
import { afterEach, describe, expect, it } from 'vitest';
import { ADDRESS_TYPE, AUTHORIZATION_TYPE } from '../../../../src/rpc/services.ts';
import { namesIn, versionsIn } from './client.ts';
import { AdsWorld } from './world.ts';

let world: AdsWorld;
afterEach(() => world.stop());

describe('a stream that watches everything', () => {
  it('gets all in its first response, then what changes', async () => {
    world = await AdsWorld.start();
    world.set({ name: 'a', text: '1', aliases: ['/10.0.0.1'] }, { name: 'b' });
    const client = world.client();
    client.send();
    const first = await client.take();
    expect(first).toMatchObject({ typeUrl: ADDRESS_TYPE, removedResources: [] });
    expect(first.resources.find(({ name }) => name === 'a')).toMatchObject({
      version: world.store.get('address', 'a')!.version,
      aliases: ['/10.0.0.1'],
    });
    expect(first.resources[0]?.resource?.typeUrl).toBe(ADDRESS_TYPE);
    expect(namesIn(first)).toEqual(['a', 'b']);
    world.set({ name: 'a', text: '2' }, { name: 'b' });
    world.remove('b');
    const second = await client.take();
    expect([namesIn(second), second.removedResources]).toEqual([['a'], ['b']]);
    expect(Buffer.from(second.resources[0]!.resource!.value).toString()).toBe('2');
  });

  it('is answered even when there is nothing, for each type', async () => {
    world = await AdsWorld.start();
    const client = world.client();
    client.send();
    client.send({ typeUrl: AUTHORIZATION_TYPE });
    const answers = [await client.take(), await client.take()];
    expect(answers.map(({ typeUrl, resources }) => [typeUrl, resources])).toEqual([
      [ADDRESS_TYPE, []],
      [AUTHORIZATION_TYPE, []],
    ]);
    world.store.apply('authorization', [{ name: 'shop/strict', message: Buffer.from('x') }], []);
    expect(await client.take()).toMatchObject({ typeUrl: AUTHORIZATION_TYPE, resources: [{ name: 'shop/strict' }] });
  });

  it('waits for the mesh to be known', async () => {
    let ready = (): void => undefined;
    world = await AdsWorld.start({ ready: new Promise((resolve) => (ready = resolve)) });
    const client = world.client();
    client.send({ resourceNamesSubscribe: ['*'] });
    world.set({ name: 'a' });
    expect(world.ads.counters().responses).toBe(0);
    ready();
    expect(namesIn(await client.take())).toEqual(['a']);
  });

  it('resumes by versions: only what differs, and what is gone', async () => {
    world = await AdsWorld.start();
    world.set({ name: 'same' }, { name: 'new' }, { name: 'changed', text: '2' });
    const client = world.client();
    const version = world.store.get('address', 'same')!.version;
    client.send({ initialResourceVersions: { same: version, changed: 'older', gone: 'x', pending: '' } });
    const first = await client.take();
    expect(namesIn(first)).toEqual(['changed', 'new']);
    expect(first.removedResources.sort()).toEqual(['gone', 'pending']);
  });

  it('resumes with another replica without being sent anything', async () => {
    world = await AdsWorld.start();
    world.set({ name: 'a', text: '1' }, { name: 'b', text: '2' });
    const client = world.client();
    client.send();
    const held = versionsIn([await client.take()]);
    const replica = await AdsWorld.start();
    replica.set({ name: 'b', text: '2' });
    replica.set({ name: 'a', text: '1' });
    const again = replica.client();
    again.send({ initialResourceVersions: held });
    expect(await again.take()).toMatchObject({ resources: [], removedResources: [] });
    await replica.stop();
  });

  it('hears nothing more before it has acknowledged, then the state as it is by then', async () => {
    world = await AdsWorld.start();
    world.set({ name: 'a' }, { name: 'b' });
    const slow = world.client();
    const quick = world.client();
    slow.send();
    quick.send();
    const first = await slow.next();
    await quick.take();
    for (let i = 0; i < 5; i++) {
      world.set({ name: 'a', text: String(i) }, { name: `short-lived-${i}` });
      await quick.until((name) => name === 'a');
    }
    world.remove('b', ...[0, 1, 2, 3, 4].map((i) => `short-lived-${i}`));
    world.set({ name: 'c' });
    await quick.until((name) => name === 'c');
    expect(slow.responses).toHaveLength(1);
    expect(
      world.ads
        .sessions()
        .map(({ types }) => types.address?.waiting)
        .sort(),
    ).toEqual([0, 3]);
    slow.ack(first);
    const second = await slow.take();
    // What came and went meanwhile is not even mentioned.
    expect([namesIn(second), second.removedResources]).toEqual([['a', 'c'], ['b']]);
    expect(Buffer.from(second.resources.find(({ name }) => name === 'a')!.resource!.value).toString()).toBe('4');
  });

  it('a refused version is not sent again before it changes; the refusal is logged and counted', async () => {
    world = await AdsWorld.start();
    world.set({ name: 'a', text: 'bad' });
    const client = world.client();
    client.send();
    client.ack(await client.next(), 'a: no address');
    world.set({ name: 'b' });
    expect(namesIn(await client.take())).toEqual(['b']);
    expect(world.ads.counters().nacks).toBe(1);
    expect(world.lines).toContainEqual(
      expect.objectContaining({ msg: 'xDS response refused by the client', error: 'a: no address', node: 'node-a' }),
    );
    world.set({ name: 'a', text: 'good' });
    expect(namesIn(await client.take())).toEqual(['a']);
  });

  it('an acknowledgement of something else changes nothing', async () => {
    world = await AdsWorld.start();
    world.set({ name: 'a' });
    const client = world.client();
    const other = world.client();
    client.send();
    other.send();
    const first = await client.next();
    await other.take();
    client.ack({ ...first, nonce: 'unheard-of' });
    client.ack({ ...first, nonce: `${first.nonce}0` }, 'nor this');
    world.set({ name: 'b' });
    await other.take();
    expect(client.responses).toHaveLength(1);
    expect(world.ads.counters().nacks).toBe(0);
    client.ack(first);
    expect(namesIn(await client.take())).toEqual(['b']);
  });

  it('all streams that are up to date get the same bytes, encoded once', async () => {
    world = await AdsWorld.start();
    world.set({ name: 'a' });
    const clients = Array.from({ length: 5 }, () => world.client());
    for (const client of clients) client.send();
    const first = await Promise.all(clients.map((client) => client.take()));
    expect(new Set(first.map(({ nonce }) => nonce)).size).toBe(1);
    await settled(() => world.ads.sessions().every(({ types }) => types.address?.inFlight === false));
    world.set({ name: 'a', text: '2' });
    const second = await Promise.all(clients.map((client) => client.take()));
    expect(new Set(second.map(({ nonce }) => nonce)).size).toBe(1);
    expect(world.ads.counters()).toMatchObject({ streams: 5, pushes: 1, responses: 10 });
  });

  it('many changes at once are one response', async () => {
    world = await AdsWorld.start({ quietMs: 20, maxDelayMs: 100, gapMs: 20 });
    const client = world.client();
    client.send();
    await client.take();
    for (let i = 0; i < 50; i++) world.set({ name: `pod-${i}` });
    expect((await client.take()).resources).toHaveLength(50);
  });

  it('what goes between a first response and its push is told', async () => {
    world = await AdsWorld.start({ quietMs: 50, maxDelayMs: 50, gapMs: 50 });
    const early = world.client();
    early.send();
    await early.take();
    world.set({ name: 'a' });
    const client = world.client();
    client.send();
    expect(namesIn(await client.take())).toEqual(['a']);
    world.remove('a');
    expect(await client.take()).toMatchObject({ removedResources: ['a'] });
  });

  it('a large first response is complete, and a client that does not read keeps nobody waiting', async () => {
    world = await AdsWorld.start();
    const text = 'x'.repeat(2000);
    world.set(...Array.from({ length: 3000 }, (_, i) => ({ name: `pod-${i}`, text })));
    const stuck = Array.from({ length: 3 }, () => world.client());
    for (const client of stuck) {
      client.pause();
      client.send();
    }
    const client = world.client();
    client.send();
    expect((await client.take()).resources).toHaveLength(3000);
    world.set({ name: 'pod-1', text: 'short' });
    expect(namesIn(await client.take())).toEqual(['pod-1']);
    for (const one of stuck) one.resume();
    for (const one of stuck) expect((await one.take()).resources).toHaveLength(3000);
  });
});

async function settled(done: () => boolean): Promise<void> {
  while (!done()) await new Promise((resolve) => setImmediate(resolve));
}
