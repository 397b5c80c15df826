import { status } from '@grpc/grpc-js';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { TunnelProtocol } from '../../../../src/proto/workload_pb.js';
import { ADDRESS_TYPE, AUTHORIZATION_TYPE } from '../../../../src/rpc/services.ts';
import type { XdsFeedOptions } from '../../../../src/sources/xds/feed.ts';
import { AdsScript, type AdsStream } from '../../../support/control-plane/ads.ts';
import { TestRoot } from '../../../support/control-plane/certificates.ts';
import { runFeed, type RunningFeed } from '../../../support/control-plane/feed.ts';
import { policyResource, rawResource, serviceResource, workloadResource } from '../../../support/control-plane/resources.ts';
import { startServer, type ControlPlaneServer, type ServerSettings } from '../../../support/control-plane/server.ts';

const WEB = 'cluster//Pod/shop/web';
const WEB_SERVICE = 'shop/web.shop.svc.cluster.local';

let dir: string;
let ads: AdsScript;
const servers: ControlPlaneServer[] = [];
const feeds: RunningFeed[] = [];

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'culvert-xds-'));
  ads = new AdsScript();
});
afterEach(async () => {
  for (const feed of feeds.splice(0)) feed.close();
  for (const server of servers.splice(0)) await server.stop();
  rmSync(dir, { recursive: true, force: true });
});

async function serve(settings: ServerSettings = {}): Promise<ControlPlaneServer> {
  const server = await startServer([ads.method], settings);
  servers.push(server);
  return server;
}
function follow(
  controlPlane: { address: string; rootFile: string; tokenFile?: string },
  options: Partial<XdsFeedOptions> = {},
): RunningFeed {
  const { address, rootFile: rootCert, tokenFile } = controlPlane;
  const feed = runFeed({ address, rootCert, ...(tokenFile === undefined ? {} : { tokenFile }) }, options);
  feeds.push(feed);
  return feed;
}
/** The first requests of a stream, by type. */
async function begin(stream: AdsStream): Promise<Record<'address' | 'authorization', Awaited<ReturnType<AdsStream['next']>>>> {
  const [address, authorization] = [await stream.next(), await stream.next()];
  expect([address.typeUrl, authorization.typeUrl]).toEqual([ADDRESS_TYPE, AUTHORIZATION_TYPE]);
  return { address, authorization };
}
const requestOf = (running: { feed: RunningFeed['feed'] }): ReturnType<RunningFeed['feed']['stats']> => running.feed.stats();

describe('first sync', () => {
  it('asks for everything as a ztunnel does, fills the store, and is synced when both types were accepted', async () => {
    const running = follow(await serve());
    const stream = await ads.stream();
    const { address, authorization } = await begin(stream);
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
    expect(requestOf(running)).toMatchObject({ responses: 2, acks: 2, nacks: 0, reconnects: 0 });
  });

  it('is synced by an empty mesh too', async () => {
    const running = follow(await serve());
    const stream = await ads.stream();
    await stream.answerTo(AUTHORIZATION_TYPE);
    await stream.answerTo(ADDRESS_TYPE);
    expect(running.synced()).toBe(true);
  });

  it('does not count a refused first response: something is missing of it', async () => {
    const running = follow(await serve());
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
    const running = follow(await serve());
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
    const running = follow(await serve());
    const stream = await ads.stream();
    await stream.answerTo(ADDRESS_TYPE, [workloadResource('web', '10.1.0.1', { node: 'good' })]);
    const response = [
      workloadResource('web', '10.1.0.2', { tunnelProtocol: 9 as TunnelProtocol, status: 7 as never }, { version: 'v2' }),
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
    expect(requestOf(running)).toMatchObject({ acks: 2, nacks: 3 });
  });

  it('refuses a type that nobody asked for', async () => {
    const running = follow(await serve());
    const stream = await ads.stream();
    const nack = await stream.answerTo('type.googleapis.com/envoy.config.cluster.v3.Cluster');
    expect(nack).toMatchObject({ typeUrl: 'type.googleapis.com/envoy.config.cluster.v3.Cluster', responseNonce: '1' });
    expect(nack.errorDetail?.message).toBe('type "type.googleapis.com/envoy.config.cluster.v3.Cluster" was not asked for');
    expect(running.errors).toHaveLength(1);
  });

  it('reports services that claim one address, once; the state decides the same way whichever came first', async () => {
    const running = follow(await serve());
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
    const running = follow(await serve());
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

  it('takes a response of 30 MB', async () => {
    const running = follow(await serve());
    const stream = await ads.stream();
    const canonicalName = 'x'.repeat(100_000);
    const resources = Array.from({ length: 300 }, (_, index) =>
      workloadResource(`w${index}`, `10.1.${index >> 8}.${index & 255}`, { canonicalName }),
    );
    const ack = await stream.answerTo(ADDRESS_TYPE, resources.slice(1));
    expect(ack.errorDetail).toBeUndefined();
    expect([...running.store.workloads()]).toHaveLength(299);
    expect(requestOf(running).bytes).toBeGreaterThan(29_900_000);
  });
});

describe('after the stream ended', () => {
  it('resumes with a server that was restarted: says what it holds, and needs only what changed', async () => {
    const server = await serve();
    const running = follow(server);
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
    await serve({ port: server.port, root: server.root });
    writeFileSync(join(dir, 'unused'), '');
    const second = await ads.stream();
    const { address, authorization } = await begin(second);
    expect(address.initialResourceVersions).toEqual({ [WEB]: 'v1', 'cluster//Pod/shop/api': 'a7', [WEB_SERVICE]: 's3' });
    expect(authorization.initialResourceVersions).toEqual({ 'shop/p': '' });
    expect(address.node?.id).toContain('ztunnel~');
    expect(address.resourceNamesSubscribe).toEqual([]);
    await second.answerTo(ADDRESS_TYPE, [workloadResource('new', '10.1.0.3')], [WEB_SERVICE]);
    expect([...running.store.workloads()].map(({ name }) => name).sort()).toEqual(['api', 'new', 'web']);
    expect([...running.store.services()]).toEqual([]);
    expect(running.store.policy('shop/p')).toBeDefined();
    expect(requestOf(running).reconnects).toBeGreaterThan(0);
  });
});

describe('a control plane that is away', () => {
  /** Synced, with one workload. */
  async function synced(server: ControlPlaneServer, tokenFile?: string): Promise<{ running: RunningFeed; stream: AdsStream }> {
    const running = follow(tokenFile === undefined ? server : { ...server, tokenFile });
    const stream = await ads.stream();
    await stream.answerTo(ADDRESS_TYPE, [workloadResource('web', '10.1.0.1')]);
    await stream.answerTo(AUTHORIZATION_TYPE);
    return { running, stream };
  }
  const again = (running: RunningFeed): boolean => running.lines.some(({ msg }) => msg === 'control plane answers again');

  it('is told once per outage, with the reason, and its return is logged; the state stays', async () => {
    const server = await serve();
    const { running } = await synced(server);
    await server.stop();
    await running.until('outage', () => running.errors.length > 0);
    expect(running.errors).toEqual([
      expect.stringMatching(new RegExp(`^follow control plane ${server.address}: UNAVAILABLE: .*ECONNREFUSED`)),
    ]);
    expect(running.store.byIp('10.1.0.1')?.uid).toBe(WEB);
    await serve({ port: server.port, root: server.root });
    const stream = await ads.stream();
    expect(again(running)).toBe(false);
    await stream.answerTo(ADDRESS_TYPE);
    expect(again(running)).toBe(true);
    expect(running.errors).toHaveLength(1);
  });

  it.each([undefined, status.OK, status.CANCELLED, status.UNKNOWN, status.DEADLINE_EXCEEDED, status.UNAVAILABLE])(
    'ends a stream as servers do (status %s): another one begins, and nobody is told',
    async (code) => {
      const { running, stream } = await synced(await serve());
      stream.end(code, 'transport is closing');
      const { address } = await begin(await ads.stream());
      expect(address.initialResourceVersions).toEqual({ [WEB]: 'v1' });
      expect(running.errors).toEqual([]);
    },
  );

  it.each([
    [status.PERMISSION_DENIED, 'PERMISSION_DENIED: not you'],
    [status.UNAUTHENTICATED, 'UNAUTHENTICATED: not you'],
    [status.INVALID_ARGUMENT, 'INVALID_ARGUMENT: not you'],
    [status.RESOURCE_EXHAUSTED, 'RESOURCE_EXHAUSTED: not you'],
    [status.INTERNAL, 'INTERNAL: not you'],
  ])('refuses us (status %s): told once, tried again', async (code, text) => {
    const server = await serve();
    const { running, stream } = await synced(server);
    stream.end(code, 'not you');
    (await ads.stream()).end(code, 'not you');
    await ads.stream();
    expect(running.errors).toEqual([`follow control plane ${server.address}: ${text}`]);
  });

  it('sends what is no response at all: told once, tried again', async () => {
    const server = await startServer([
      {
        definition: { ...ads.method.definition, responseSerialize: (value: Buffer) => value } as typeof ads.method.definition,
        handler: (call: { write(bytes: Buffer): void; on(event: string, listener: () => void): void }) => {
          call.on('data', () => undefined);
          call.write(Buffer.from([0xff, 0xff, 0xff]));
        },
      },
    ]);
    servers.push(server);
    const running = follow(server);
    await running.until('told', () => running.errors.length > 0);
    expect(running.errors[0]).toMatch(/INTERNAL: Response message parsing error/);
    await running.until('tried again', () => running.feed.stats().reconnects > 2).catch(() => undefined);
    expect(running.errors).toHaveLength(1);
  });

  it('takes the next token, as it is in the file, with the next stream', async () => {
    const tokenFile = join(dir, 'token');
    writeFileSync(tokenFile, 'one');
    const { stream } = await synced(await serve(), tokenFile);
    expect(stream.metadata.get('authorization')).toEqual(['Bearer one']);
    writeFileSync(tokenFile, 'two');
    stream.end();
    expect((await ads.stream()).metadata.get('authorization')).toEqual(['Bearer two']);
  });

  it('is not trusted until the roots file has its root', async () => {
    const server = await serve();
    const rootFile = join(dir, 'root.pem');
    writeFileSync(rootFile, (await TestRoot.create('CN=other')).pem);
    const running = follow({ address: server.address, rootFile });
    await running.until('refused', () => running.errors.length > 0);
    expect(running.errors[0]).toContain(`its certificate does not lead to a root in ${rootFile}`);
    writeFileSync(rootFile, server.root.pem);
    await (await ads.stream()).answerTo(ADDRESS_TYPE, [workloadResource('web', '10.1.0.1')]);
    expect(running.errors).toHaveLength(1);
  });

  it('is not asked without a token that can be read', async () => {
    const running = follow({ ...(await serve()), tokenFile: join(dir, 'none') });
    await running.until('told', () => running.errors.length > 0);
    expect(running.errors).toEqual([expect.stringContaining(`read token ${join(dir, 'none')}`)]);
    expect(ads.streams).toHaveLength(0);
    writeFileSync(join(dir, 'none'), 'here');
    await (await ads.stream()).answerTo(ADDRESS_TYPE);
  });
});

describe('close', () => {
  it('ends the stream at once, also when the server never answered', async () => {
    const running = follow(await serve());
    const stream = await ads.stream();
    await begin(stream);
    running.close();
    await stream.over();
    expect(running.errors).toEqual([]);
  });

  it('ends a connection that a server holds up before TLS', async () => {
    const silent = createServer();
    const accepted = new Promise<Socket>((resolve) => silent.once('connection', resolve));
    await new Promise<void>((resolve) => silent.listen(0, '127.0.0.1', resolve));
    const rootFile = join(dir, 'root.pem');
    writeFileSync(rootFile, (await TestRoot.create()).pem);
    const running = follow({ address: `127.0.0.1:${(silent.address() as { port: number }).port}`, rootFile });
    const socket = await accepted;
    const gone = new Promise((resolve) => socket.once('close', resolve));
    socket.on('error', () => undefined).resume();
    running.close();
    await gone;
    await new Promise((resolve) => silent.close(resolve));
    expect(running.errors).toEqual([]);
  });

  it('applies nothing any more of a response that is being read', async () => {
    const running = follow(await serve());
    const stream = await ads.stream();
    const many = Array.from({ length: 20_000 }, (_, index) =>
      workloadResource(`w${index}`, `10.${index >> 16}.${(index >> 8) & 255}.${index & 255}`),
    );
    running.store.onChange(() => {
      throw new Error('applied after close');
    });
    stream.send(ADDRESS_TYPE, many);
    while (running.feed.stats().responses === 0) await new Promise((resolve) => setImmediate(resolve));
    running.close();
    await stream.over();
    expect([...running.store.workloads()]).toEqual([]);
    expect(running.errors).toEqual([]);
  });
});
