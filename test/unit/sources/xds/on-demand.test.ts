import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { ADDRESS_TYPE, AUTHORIZATION_TYPE } from '../../../../src/rpc/services.ts';
import { AdsScript, type AdsStream } from '../../../support/control-plane/ads.ts';
import { runFeed, type RunningFeed } from '../../../support/control-plane/feed.ts';
import { rawResource, serviceResource, workloadResource } from '../../../support/control-plane/resources.ts';
import { startServer, type ControlPlaneServer } from '../../../support/control-plane/server.ts';

const WEB = 'cluster//Pod/shop/web';

describe('on demand', () => {
  let ads: AdsScript;
  let server: ControlPlaneServer;
  let running: RunningFeed;
  let stream: AdsStream;

  beforeEach(async () => {
    ads = new AdsScript();
    server = await startServer([ads.method]);
    running = runFeed({ address: server.address, rootCert: server.rootFile }, { onDemand: true, network: 'net1' });
    stream = await ads.stream();
  });
  afterEach(async () => {
    running.close();
    await server.stop();
  });
  const demand = (ip: string): Promise<void> => running.feed.demand!(ip);
  const began = async (): Promise<void> => {
    await stream.next();
    await stream.next();
  };
  const web = (version = 'v1'): ReturnType<typeof workloadResource> =>
    workloadResource('web', '10.1.0.1', { network: 'net1' }, { version, aliases: ['net1/10.1.0.1'] });

  it('begins with no address and all policies, and is ready when these are there', async () => {
    const [address, authorization] = [await stream.next(), await stream.next()];
    expect(address).toMatchObject({ typeUrl: ADDRESS_TYPE, resourceNamesSubscribe: ['*'], resourceNamesUnsubscribe: ['*'] });
    expect(authorization).toMatchObject({ typeUrl: AUTHORIZATION_TYPE, resourceNamesSubscribe: [], resourceNamesUnsubscribe: [] });
    await stream.answerTo(AUTHORIZATION_TYPE);
    expect(running.synced()).toBe(true);
  });

  it('asks once for an address that several want, and answers when the state has it', async () => {
    await began();
    const demands = [demand('10.1.0.1'), demand('10.1.0.1'), demand('::ffff:10.1.0.1')];
    expect(await stream.next()).toMatchObject({ typeUrl: ADDRESS_TYPE, resourceNamesSubscribe: ['net1/10.1.0.1'], responseNonce: '' });
    await stream.answerTo(ADDRESS_TYPE, [web()]);
    await Promise.all(demands);
    expect(running.store.byIp('10.1.0.1')?.uid).toBe(WEB);
    await demand('10.1.0.1'); // known: nobody is asked
    expect(stream.requests.filter(({ responseNonce }) => responseNonce === '')).toHaveLength(3);
  });

  it('knows what it asked for without aliases: by the addresses of workload and service', async () => {
    const demands = [demand('10.1.0.1'), demand('10.96.0.1')];
    const service = serviceResource('web', undefined, { addresses: [{ network: 'net1', address: Uint8Array.of(10, 96, 0, 1) }] });
    await stream.answerTo(ADDRESS_TYPE, [workloadResource('web', '10.1.0.1', { network: 'net1' }), service]);
    await Promise.all(demands);
    expect(running.store.byVip('10.96.0.1', 'shop')?.name).toBe('web');
  });

  it('gives up a name that nothing is behind, so that asking anew is news to the server', async () => {
    await began();
    const unknown = demand('192.0.2.1');
    await stream.next();
    stream.send(ADDRESS_TYPE, [], ['net1/192.0.2.1']);
    await unknown;
    const after = [await stream.next(), await stream.next()];
    expect(after.map(({ responseNonce, resourceNamesUnsubscribe }) => [responseNonce, resourceNamesUnsubscribe])).toEqual([
      ['', ['net1/192.0.2.1']],
      ['1', []],
    ]);
    void demand('192.0.2.1');
    expect(await stream.next()).toMatchObject({ resourceNamesSubscribe: ['net1/192.0.2.1'] });
  });

  it('does the same when what came cannot be read, or is removed later, or moves to another address', async () => {
    await began();
    const broken = demand('10.1.0.9');
    await stream.next();
    const nack = await stream.answerTo(ADDRESS_TYPE, [{ ...rawResource('x', ADDRESS_TYPE, Uint8Array.of(9)), aliases: ['net1/10.1.0.9'] }]);
    expect(nack.errorDetail).toBeDefined();
    await broken;
    const unsubscribed = (): string[] => stream.requests.flatMap(({ resourceNamesUnsubscribe }) => resourceNamesUnsubscribe);
    expect(unsubscribed()).toEqual(['*', 'net1/10.1.0.9']);

    const found = demand('10.1.0.1');
    await stream.answerTo(ADDRESS_TYPE, [web()]);
    await found;
    await stream.answerTo(ADDRESS_TYPE, [workloadResource('web', '10.1.0.2', { network: 'net1' })]);
    expect(unsubscribed()).toEqual(['*', 'net1/10.1.0.9', 'net1/10.1.0.1']);
    const moved = demand('10.1.0.2');
    await stream.answerTo(ADDRESS_TYPE, [workloadResource('web', '10.1.0.2', { network: 'net1' })]);
    await moved;
    await stream.answerTo(ADDRESS_TYPE, [], [WEB]);
    expect(unsubscribed()).toEqual(['*', 'net1/10.1.0.9', 'net1/10.1.0.1', 'net1/10.1.0.2']);
    expect(running.store.byIp('10.1.0.2')).toBeUndefined();
  });

  it('asks again on the next stream, for what is held and what is still open', async () => {
    const found = demand('10.1.0.1');
    await stream.answerTo(ADDRESS_TYPE, [web('v5')]);
    await found;
    const open = demand('10.1.0.2');
    stream.end();
    const second = await ads.stream();
    const request = await second.next();
    expect(request).toMatchObject({ initialResourceVersions: { [WEB]: 'v5' }, resourceNamesUnsubscribe: ['*'] });
    expect([...request.resourceNamesSubscribe].sort()).toEqual(['*', 'net1/10.1.0.1', 'net1/10.1.0.2']);
    await second.answerTo(ADDRESS_TYPE, [], ['net1/10.1.0.2']);
    await open;
  });

  it('keeps nobody waiting when it is closed', async () => {
    const open = demand('10.1.0.2');
    running.close();
    await open;
  });
});
