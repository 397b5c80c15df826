import { status } from '@grpc/grpc-js';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { ADDRESS_TYPE, AUTHORIZATION_TYPE } from '../../../../src/rpc/services.ts';
import { firstRequests, type AdsScript } from '../../../support/control-plane/ads.ts';
import { policyResource, rawResource, serviceResource, workloadResource } from '../../../support/control-plane/resources.ts';
import { XdsWorld } from '../../../support/control-plane/xds-world.ts';

const WEB = 'cluster//Pod/shop/web';
const WEB_SERVICE = 'shop/web.shop.svc.cluster.local';

let world: XdsWorld;
let ads: AdsScript;
beforeEach(() => {
  world = new XdsWorld();
  ads = world.ads;
});
afterEach(() => world.end());

describe('first sync', () => {
  it('asks for everything as a ztunnel does, fills the store, and is synced when both types were accepted', async () => {
    const running = world.follow(await world.serve());
    const stream = await ads.stream();
    const { address, authorization } = await firstRequests(stream);
    for (const request of [address, authorization]) {
      expect(request.node?.id).toBe('ztunnel~10.0.0.9~tunnel-x.culvert~culvert.svc.cluster.local');
      expect(request.node?.metadata).toEqual({ NAME: 'tunnel-x', NAMESPACE: 'culvert', INSTANCE_IPS: '10.0.0.9', NODE_NAME: 'node1' });
      expect(request).toMatchObject({
        resourceNamesSubscribe: [],
        resourceNamesUnsubscribe: [],
        initialResourceVersions: {},
        responseNonce: '',
      });
    }
    const services = { [WEB_SERVICE]: { ports: [{ servicePort: 80, targetPort: 8080 }] } };
    const ack = await stream.answerTo(ADDRESS_TYPE, [
      workloadResource('web', '10.1.0.1', { services }),
      serviceResource('web', '10.96.0.1'),
    ]);
    expect(ack).toMatchObject({ typeUrl: ADDRESS_TYPE, responseNonce: '1' });
    expect(ack.errorDetail).toBeUndefined();
    expect(ack.node).toBeUndefined();
    expect(running.synced()).toBe(false);
    expect(running.store.byIp('10.1.0.1')?.identity).toBe('spiffe://cluster.local/ns/shop/sa/web');
    const service = running.store.byVip('10.96.0.1', 'shop')!;
    expect(running.store.endpointsOf(service).map(({ workload, ports }) => [workload.uid, [...ports]])).toEqual([[WEB, [[80, 8080]]]]);

    await stream.answerTo(AUTHORIZATION_TYPE, [policyResource('p')]);
    expect(running.synced()).toBe(true);
    expect(running.store.policy('shop/p')?.authorization.name).toBe('p');
    expect(running.errors).toEqual([]);
    expect(running.feed.stats()).toMatchObject({ responses: 2, acks: 2, nacks: 0, reconnects: 0 });
  });

  it('is synced by an empty mesh too', async () => {
    const running = world.follow(await world.serve());
    const stream = await ads.stream();
    await stream.answerTo(AUTHORIZATION_TYPE);
    await stream.answerTo(ADDRESS_TYPE);
    expect(running.synced()).toBe(true);
  });

  it('does not count a refused first response: something is missing of it', async () => {
    const running = world.follow(await world.serve());
    const stream = await ads.stream();
    await stream.answerTo(AUTHORIZATION_TYPE);
    await stream.answerTo(ADDRESS_TYPE, [workloadResource('web', '10.1.0.1'), rawResource('bad', ADDRESS_TYPE, Uint8Array.of(255))]);
    expect(running.store.byIp('10.1.0.1')?.uid).toBe(WEB);
    expect(running.synced()).toBe(false);
    await stream.answerTo(ADDRESS_TYPE);
    expect(running.synced()).toBe(true);
  });
});

describe('changes', () => {
  it('applies what changed and what is gone; a pod with another address loses the old one', async () => {
    const running = world.follow(await world.serve());
    const stream = await ads.stream();
    await stream.answerTo(ADDRESS_TYPE, [
      workloadResource('web', '10.1.0.1'),
      workloadResource('api', '10.1.0.2'),
      serviceResource('web', '10.96.0.1'),
    ]);
    await stream.answerTo(ADDRESS_TYPE, [workloadResource('web', '10.1.0.7')]);
    expect(running.store.byIp('10.1.0.1')).toBeUndefined();
    expect(running.store.byIp('10.1.0.7')?.uid).toBe(WEB);
    await stream.answerTo(ADDRESS_TYPE, [], [WEB, WEB_SERVICE, 'never-known']);
    expect([...running.store.workloads()].map(({ name }) => name)).toEqual(['api']);
    expect([...running.store.services()]).toEqual([]);
    expect(running.errors).toEqual([]);
  });

  it('refuses what is faulty and says all of it, applies the rest, and keeps the last good version', async () => {
    const running = world.follow(await world.serve());
    const stream = await ads.stream();
    await stream.answerTo(ADDRESS_TYPE, [workloadResource('web', '10.1.0.1', { node: 'good' })]);
    const response = [
      workloadResource('web', '10.1.0.2', { tunnelProtocol: 9 as never, status: 7 as never }, { version: 'v2' }),
      workloadResource('api', '10.1.0.3'),
      serviceResource('bad', '10.96.0.1', { ports: [{ servicePort: 0 }] }),
    ];
    const nack = await stream.answerTo(ADDRESS_TYPE, response);
    expect(nack.responseNonce).toBe('2');
    expect(nack.errorDetail?.code).toBe(status.INVALID_ARGUMENT);
    expect(nack.errorDetail?.message.split('; ')).toEqual([
      `${WEB}: tunnel_protocol 9: unknown enum value`,
      `${WEB}: status 7: unknown enum value`,
      'shop/bad.shop.svc.cluster.local: ports[0].service_port 0: must be 1 to 65535',
    ]);
    expect(running.store.byIp('10.1.0.1')?.node).toBe('good');
    expect(running.store.byIp('10.1.0.2')).toBeUndefined();
    expect(running.store.byIp('10.1.0.3')?.name).toBe('api');
    expect(running.errors).toEqual([`apply what the control plane sent: ${nack.errorDetail?.message}`]);
    // The same again is refused again, and not told again.
    await stream.answerTo(ADDRESS_TYPE, response);
    expect(running.errors).toHaveLength(1);
    // Once it was good, the same fault is news.
    await stream.answerTo(ADDRESS_TYPE, [workloadResource('web', '10.1.0.2')]);
    await stream.answerTo(ADDRESS_TYPE, response.slice(0, 1));
    expect(running.errors).toHaveLength(2);
    expect(running.feed.stats()).toMatchObject({ acks: 2, nacks: 3 });
  });

  it('refuses a type that nobody asked for', async () => {
    const running = world.follow(await world.serve());
    const stream = await ads.stream();
    const nack = await stream.answerTo('type.googleapis.com/envoy.config.cluster.v3.Cluster');
    expect(nack).toMatchObject({ typeUrl: 'type.googleapis.com/envoy.config.cluster.v3.Cluster', responseNonce: '1' });
    expect(nack.errorDetail?.message).toBe('type "type.googleapis.com/envoy.config.cluster.v3.Cluster" was not asked for');
    expect(running.errors).toHaveLength(1);
  });

  it('reports services that claim one address, once; the state decides the same way whichever came first', async () => {
    const running = world.follow(await world.serve());
    const stream = await ads.stream();
    await stream.answerTo(ADDRESS_TYPE, [serviceResource('b', '10.96.0.1')]);
    await stream.answerTo(ADDRESS_TYPE, [serviceResource('a', '10.96.0.1')]);
    await stream.answerTo(ADDRESS_TYPE, [serviceResource('a', '10.96.0.1'), serviceResource('b', '10.96.0.1')]);
    expect(running.errors).toEqual([
      'apply what the control plane sent: address 10.96.0.1 is claimed by shop/a.shop.svc.cluster.local and shop/b.shop.svc.cluster.local, the first is used',
    ]);
    expect(running.store.byVip('10.96.0.1', 'other')?.name).toBe('a');
    await stream.answerTo(ADDRESS_TYPE, [], ['shop/a.shop.svc.cluster.local']);
    expect(running.store.byVip('10.96.0.1', 'other')?.name).toBe('b');
    await stream.answerTo(ADDRESS_TYPE, [serviceResource('a', '10.96.0.1')]);
    expect(running.errors).toHaveLength(2);
  });

  it('warns of workloads with one address, and of waypoints that are not used, once', async () => {
    const running = world.follow(await world.serve());
    const stream = await ads.stream();
    const waypoint = { destination: { case: 'hostname' as const, value: { namespace: 'shop', hostname: 'wp' } }, hboneMtlsPort: 15008 };
    const resources = [
      workloadResource('web', '10.1.0.1', { waypoint }),
      workloadResource('api', '10.1.0.1'),
      serviceResource('web', '10.96.0.1', { waypoint, addresses: [{ address: Uint8Array.of(10, 0, 0, 0), length: 8 }] }),
    ];
    await stream.answerTo(ADDRESS_TYPE, resources);
    await stream.answerTo(ADDRESS_TYPE, resources);
    const warnings = running.lines.filter((line) => line['level'] === 40).map(({ msg, count, first }) => [msg, count, first]);
    expect(warnings).toEqual([
      ['workloads with one address', 1, [`address 10.1.0.1 is claimed by cluster//Pod/shop/api and ${WEB}, the first is used`]],
      [
        'resources applied without what this version does not use',
        2,
        [`${WEB}: waypoint`, `${WEB_SERVICE}: waypoint, address range 10.0.0.0/8`],
      ],
    ]);
    expect(running.store.byVip('10.96.0.1', 'shop')).toBeUndefined();
    expect(running.errors).toEqual([]);
  });

  it('answers whatever resources come, and goes on', async () => {
    const running = world.follow(await world.serve());
    const stream = await ads.stream();
    const name = fc.oneof(
      fc.constantFrom(WEB, WEB_SERVICE, '', '__proto__'),
      fc.string({ maxLength: 10 }).filter((text) => text.isWellFormed()),
    );
    const resource = fc.tuple(name, fc.uint8Array({ maxLength: 60 })).map(([given, bytes]) => rawResource(given, ADDRESS_TYPE, bytes));
    const good = fc.constantFrom(workloadResource('web', '10.1.0.1'), serviceResource('web', '10.96.0.1'));
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.oneof(resource, good), { maxLength: 5 }),
        fc.array(name, { maxLength: 3 }),
        async (resources, removed) => {
          const answer = await stream.answerTo(ADDRESS_TYPE, resources, removed);
          const faulty = resources.some(({ name: given }) => given !== WEB && given !== WEB_SERVICE);
          if (faulty) expect(answer.errorDetail?.code).toBe(status.INVALID_ARGUMENT);
        },
      ),
      { numRuns: 100 },
    );
    await stream.answerTo(ADDRESS_TYPE, [workloadResource('last', '10.1.0.9')]);
    expect(running.store.byIp('10.1.0.9')?.name).toBe('last');
    expect(running.feed.stats().reconnects).toBe(0);
  });

  it('takes a response of 30 MB', async () => {
    const running = world.follow(await world.serve());
    const stream = await ads.stream();
    const canonicalName = 'x'.repeat(100_000);
    const resources = Array.from({ length: 300 }, (_, index) =>
      workloadResource(`w${index}`, `10.1.${index >> 8}.${index & 255}`, { canonicalName }),
    );
    const ack = await stream.answerTo(ADDRESS_TYPE, resources.slice(1));
    expect(ack.errorDetail).toBeUndefined();
    expect([...running.store.workloads()]).toHaveLength(299);
    expect(running.feed.stats().bytes).toBeGreaterThan(29_900_000);
  });
});

describe('after the stream ended', () => {
  it('resumes with a server that was restarted: says what it holds, and needs only what changed', async () => {
    const server = await world.serve();
    const running = world.follow(server);
    const first = await ads.stream();
    await first.answerTo(ADDRESS_TYPE, [
      workloadResource('web', '10.1.0.1'),
      workloadResource('api', '10.1.0.2', {}, { version: 'a7' }),
      serviceResource('web', '10.96.0.1', {}, { version: 's3' }),
    ]);
    await first.answerTo(AUTHORIZATION_TYPE, [policyResource('p', {}, { version: '' })]);
    await first.answerTo(ADDRESS_TYPE, [
      workloadResource('api', '10.1.0.2', { status: 5 as never }, { version: 'a8' }),
      rawResource('new', ADDRESS_TYPE, Uint8Array.of(1)),
    ]);
    await first.answerTo(ADDRESS_TYPE, [serviceResource('gone', '10.96.0.9')]);
    await first.answerTo(ADDRESS_TYPE, [], ['shop/gone.shop.svc.cluster.local']);
    await server.stop();
    await world.serve({ port: server.port, root: server.root });
    const second = await ads.stream();
    const { address, authorization } = await firstRequests(second);
    expect(address.initialResourceVersions).toEqual({ [WEB]: 'v1', 'cluster//Pod/shop/api': 'a7', [WEB_SERVICE]: 's3' });
    expect(authorization.initialResourceVersions).toEqual({ 'shop/p': '' });
    expect(address.node?.id).toContain('ztunnel~');
    expect(address.resourceNamesSubscribe).toEqual([]);
    await second.answerTo(ADDRESS_TYPE, [workloadResource('new', '10.1.0.3')], [WEB_SERVICE]);
    expect([...running.store.workloads()].map(({ name }) => name).sort()).toEqual(['api', 'new', 'web']);
    expect([...running.store.services()]).toEqual([]);
    expect(running.store.policy('shop/p')).toBeDefined();
    expect(running.feed.stats().reconnects).toBeGreaterThan(0);
  });
});
