/** Streams that ask for what they need, against a real gRPC server. */
import { afterEach, describe, expect, it } from 'vitest';
import type { AdsClient, Request } from './client.ts';
import { namesIn, versionsIn } from './client.ts';
import { AdsWorld } from './world.ts';

let world: AdsWorld;
afterEach(() => world.stop());

/** How a client says that it wants nothing yet. */
const NOTHING: Request = { resourceNamesSubscribe: ['*'], resourceNamesUnsubscribe: ['*'] };
const SERVICE = 'shop/web.shop.svc.cluster.local';
const pod = (name: string, ip: string, node = 'node-b'): { name: string; aliases: string[]; node: string; services: string[] } => ({
  name,
  aliases: [`/${ip}`],
  node,
  services: [SERVICE],
});

async function start(): Promise<AdsClient> {
  world = await AdsWorld.start();
  world.set(
    { name: SERVICE, aliases: ['/10.96.0.1'] },
    pod('web-1', '10.0.0.1'),
    pod('web-2', '10.0.0.2'),
    { name: 'db-1', aliases: ['/10.0.0.9'], node: 'node-b' },
    { name: 'own', aliases: ['/10.0.1.1'], node: 'node-a' },
  );
  return world.client();
}

describe('a stream that asks for what it needs', () => {
  it("begins with its own node's pods and nothing else", async () => {
    const client = await start();
    client.send(NOTHING);
    expect(namesIn(await client.take())).toEqual(['own']);
    world.set({ name: 'db-1', text: '2', node: 'node-b' }, { name: 'own-2', node: 'node-a' });
    expect(namesIn(await client.take())).toEqual(['own-2']);
    world.remove('own', 'db-1');
    expect(await client.take()).toMatchObject({ resources: [], removedResources: ['own'] });
  });

  it('gets a pod by its address, with name and alias, and its changes', async () => {
    const client = await start();
    client.send(NOTHING);
    await client.take();
    client.send({ resourceNamesSubscribe: ['/10.0.0.9'] });
    const answer = await client.take();
    expect(answer).toMatchObject({ resources: [{ name: 'db-1', aliases: ['/10.0.0.9'] }], removedResources: [] });
    world.set({ name: 'db-1', text: '2', aliases: ['/10.0.0.10'] });
    expect(namesIn(await client.take())).toEqual(['db-1']);
    world.remove('db-1');
    expect(await client.take()).toMatchObject({ removedResources: ['db-1'] });
    world.set({ name: 'db-9', aliases: ['/10.0.0.9'] });
    expect(namesIn(await client.take())).toEqual(['db-9']);
  });

  it.each([
    ['name', SERVICE],
    ['address', '/10.96.0.1'],
  ])('gets a service by its %s with the workloads behind it, and those that join', async (_by, asked) => {
    const client = await start();
    client.send(NOTHING);
    await client.take();
    client.send({ resourceNamesSubscribe: [asked] });
    expect(namesIn(await client.take())).toEqual([SERVICE, 'web-1', 'web-2']);
    world.set(pod('web-3', '10.0.0.3'), { ...pod('other', '10.0.0.4'), services: [] });
    expect(namesIn(await client.take())).toEqual(['web-3']);
    world.set({ ...pod('web-1', '10.0.0.1'), text: '2', services: [] });
    expect(namesIn(await client.take())).toEqual(['web-1']);
  });

  it('is told what does not exist, and gets it when it does', async () => {
    const client = await start();
    client.send(NOTHING);
    await client.take();
    client.send({ resourceNamesSubscribe: ['/10.9.9.9', 'nobody'] });
    expect((await client.take()).removedResources.sort()).toEqual(['/10.9.9.9', 'nobody']);
    world.set({ name: 'late', aliases: ['/10.9.9.9'] });
    expect(namesIn(await client.take())).toEqual(['late']);
    world.set({ name: 'nobody' });
    expect(namesIn(await client.take())).toEqual(['nobody']);
  });

  it('hears no more of what it gave up', async () => {
    const client = await start();
    client.send({ resourceNamesSubscribe: ['db-1', 'web-1'] });
    expect(namesIn(await client.take())).toEqual(['db-1', 'own', 'web-1']);
    client.send({ resourceNamesUnsubscribe: ['db-1'] });
    // The next answer proves that the request before it was read.
    client.send({ resourceNamesSubscribe: ['web-2'] });
    await client.take();
    world.set({ name: 'db-1', text: '2', node: 'node-b' }, { ...pod('web-1', '10.0.0.1'), text: '2' });
    expect(namesIn(await client.take())).toEqual(['web-1']);
  });

  it('resumes: what it still has counts as asked for', async () => {
    const client = await start();
    client.send({ resourceNamesSubscribe: ['db-1', 'web-1'] });
    const held = versionsIn([await client.take()]);
    client.close();
    world.set({ ...pod('web-1', '10.0.0.1'), text: '2' });
    const again = world.client();
    again.send({ ...NOTHING, initialResourceVersions: { ...held, gone: 'x', '/10.0.0.2': '' } });
    const first = await again.take();
    // web-2 was asked for by address before the connection broke, and never answered.
    expect([namesIn(first), first.removedResources]).toEqual([['web-1', 'web-2'], ['gone']]);
    world.set({ name: 'db-1', text: '3' });
    expect(namesIn(await again.take())).toEqual(['db-1']);
  });

  it('may ask while a response is on its way: one answer for all that was asked meanwhile', async () => {
    const client = await start();
    client.send(NOTHING);
    const first = await client.next();
    client.send({ resourceNamesSubscribe: ['db-1'] });
    client.send({ resourceNamesSubscribe: ['/10.1.1.1'] });
    client.send({ resourceNamesSubscribe: ['web-1'] });
    client.ack(first);
    const second = await client.take();
    expect([namesIn(second), second.removedResources]).toEqual([['db-1', 'web-1'], ['/10.1.1.1']]);
  });

  it('is answered about what went before its turn came', async () => {
    const client = await start();
    client.send(NOTHING);
    const first = await client.next();
    client.send({ resourceNamesSubscribe: ['db-1', '/10.0.0.1'] });
    await until(() => (world.ads.sessions()[0]?.types.address?.waiting ?? 0) > 0);
    world.remove('db-1', 'web-1');
    client.ack(first);
    const gone = new Set<string>();
    while (!gone.has('db-1') || !gone.has('/10.0.0.1')) for (const name of (await client.take()).removedResources) gone.add(name);
  });

  it('may want everything after all, and then no more', async () => {
    const client = await start();
    client.send(NOTHING);
    await client.take();
    client.send({ resourceNamesSubscribe: ['*'] });
    expect((await client.take()).resources).toHaveLength(5);
    client.send({ resourceNamesUnsubscribe: ['*'] });
    client.send({ resourceNamesSubscribe: ['db-1'] });
    expect(namesIn(await client.take())).toEqual(['db-1']);
    world.set({ ...pod('web-1', '10.0.0.1'), text: '2' }, { name: 'db-1', text: '2' });
    expect(namesIn(await client.take())).toEqual(['db-1']);
  });
});

async function until(done: () => boolean): Promise<void> {
  while (!done()) await new Promise((resolve) => setImmediate(resolve));
}
