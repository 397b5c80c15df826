import { status, type ServerDuplexStream } from '@grpc/grpc-js';
import { writeFileSync } from 'node:fs';
import { createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { ADDRESS_TYPE, AUTHORIZATION_TYPE } from '../../../../src/rpc/services.ts';
import { firstRequests, type AdsScript, type AdsStream } from '../../../support/control-plane/ads.ts';
import { TestRoot } from '../../../support/control-plane/certificates.ts';
import type { RunningFeed } from '../../../support/control-plane/feed.ts';
import { workloadResource } from '../../../support/control-plane/resources.ts';
import type { ControlPlaneServer } from '../../../support/control-plane/server.ts';
import { XdsWorld } from '../../../support/control-plane/xds-world.ts';

const WEB = 'cluster//Pod/shop/web';

let world: XdsWorld;
let ads: AdsScript;
beforeEach(() => {
  world = new XdsWorld();
  ads = world.ads;
});
afterEach(() => world.end());

describe('a control plane that is away', () => {
  /** Synced, with one workload. */
  async function synced(server: ControlPlaneServer, tokenFile?: string): Promise<{ running: RunningFeed; stream: AdsStream }> {
    const running = world.follow(server, tokenFile === undefined ? {} : { tokenFile });
    const stream = await ads.stream();
    await stream.answerTo(ADDRESS_TYPE, [workloadResource('web', '10.1.0.1')]);
    await stream.answerTo(AUTHORIZATION_TYPE);
    return { running, stream };
  }
  const again = (running: RunningFeed): boolean => running.lines.some(({ msg }) => msg === 'control plane answers again');

  it('is told once per outage, with the reason, and its return is logged; the state stays', async () => {
    const server = await world.serve();
    const { running } = await synced(server);
    await server.stop();
    await running.until('outage', () => running.errors.length > 0);
    expect(running.errors).toEqual([
      expect.stringMatching(new RegExp(`^follow control plane ${server.address}: UNAVAILABLE: .*ECONNREFUSED`)),
    ]);
    expect(running.store.byIp('10.1.0.1')?.uid).toBe(WEB);
    await world.serve({ port: server.port, root: server.root });
    const stream = await ads.stream();
    expect(again(running)).toBe(false);
    await stream.answerTo(ADDRESS_TYPE);
    expect(again(running)).toBe(true);
    expect(running.errors).toHaveLength(1);
  });

  it.each([undefined, status.OK, status.CANCELLED, status.UNKNOWN, status.DEADLINE_EXCEEDED, status.UNAVAILABLE])(
    'ends a stream as servers do (status %s): another one begins, and nobody is told',
    async (code) => {
      const { running, stream } = await synced(await world.serve());
      stream.end(code, 'transport is closing');
      const { address } = await firstRequests(await ads.stream());
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
    const server = await world.serve();
    const { running, stream } = await synced(server);
    stream.end(code, 'not you');
    (await ads.stream()).end(code, 'not you');
    await ads.stream();
    expect(running.errors).toEqual([`follow control plane ${server.address}: ${text}`]);
  });

  it('sends what is no response at all: told once, tried again', async () => {
    let streams = 0;
    const server = await world.serve(undefined, {
      definition: { ...ads.method.definition, responseSerialize: (value: Buffer) => value } as typeof ads.method.definition,
      handler: (call: ServerDuplexStream<unknown, Buffer>) => {
        streams++;
        call.on('data', () => undefined);
        call.write(Buffer.from([0xff, 0xff, 0xff]));
      },
    });
    const running = world.follow(server);
    await running.until('told', () => running.errors.length > 0);
    expect(running.errors[0]).toMatch(/INTERNAL: Response message parsing error/);
    await vi.waitFor(() => expect(streams).toBeGreaterThan(2));
    expect(running.errors).toHaveLength(1);
  });

  it('takes the next token, as it is in the file, with the next stream', async () => {
    const tokenFile = join(world.dir, 'token');
    writeFileSync(tokenFile, 'one');
    const { stream } = await synced(await world.serve(), tokenFile);
    expect(stream.metadata.get('authorization')).toEqual(['Bearer one']);
    writeFileSync(tokenFile, 'two');
    stream.end();
    expect((await ads.stream()).metadata.get('authorization')).toEqual(['Bearer two']);
  });

  it('is not trusted until the roots file has its root', async () => {
    const server = await world.serve();
    const rootFile = join(world.dir, 'root.pem');
    writeFileSync(rootFile, (await TestRoot.create('CN=other')).pem);
    const running = world.follow({ address: server.address, rootFile });
    await running.until('refused', () => running.errors.length > 0);
    expect(running.errors[0]).toContain(`its certificate does not lead to a root in ${rootFile}`);
    writeFileSync(rootFile, server.root.pem);
    await (await ads.stream()).answerTo(ADDRESS_TYPE, [workloadResource('web', '10.1.0.1')]);
    expect(running.errors).toHaveLength(1);
  });

  it('is not asked without a token that can be read', async () => {
    const running = world.follow(await world.serve(), { tokenFile: join(world.dir, 'none') });
    await running.until('told', () => running.errors.length > 0);
    expect(running.errors).toEqual([expect.stringContaining(`read token ${join(world.dir, 'none')}`)]);
    expect(ads.streams).toHaveLength(0);
    writeFileSync(join(world.dir, 'none'), 'here');
    await (await ads.stream()).answerTo(ADDRESS_TYPE);
  });
});

describe('close', () => {
  it('ends the stream at once, also when the server never answered', async () => {
    const running = world.follow(await world.serve());
    const stream = await ads.stream();
    await firstRequests(stream);
    running.close();
    await stream.over();
    expect(running.errors).toEqual([]);
  });

  it('ends a connection that a server holds up before TLS', async () => {
    const silent = createServer();
    const accepted = new Promise<Socket>((resolve) => silent.once('connection', resolve));
    await new Promise<void>((resolve) => silent.listen(0, '127.0.0.1', resolve));
    const rootFile = join(world.dir, 'root.pem');
    writeFileSync(rootFile, (await TestRoot.create()).pem);
    const running = world.follow({ address: `127.0.0.1:${(silent.address() as { port: number }).port}`, rootFile });
    const socket = await accepted;
    const gone = new Promise((resolve) => socket.once('close', resolve));
    socket.on('error', () => undefined).resume();
    running.close();
    await gone;
    await new Promise((resolve) => silent.close(resolve));
    expect(running.errors).toEqual([]);
  });

  it('applies nothing any more of a response that is being read', async () => {
    const running = world.follow(await world.serve());
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
