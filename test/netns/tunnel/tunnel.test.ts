/** Two tunnels as real processes over the real datapath, IPv4 and IPv6: what applications see, what the logs say, what it costs. */
import type { ChildProcess } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { native } from '../../../src/sys/native.ts';
import { PORTS } from './app.ts';
import { eventually, TunnelScene, type App, type Pod } from './scene.ts';

/** `CULVERT_TEST_CONNECTIONS=10000 CULVERT_TEST_BULK_MB=2048 make test-netns` for a longer run. */
const CONNECTIONS = Number(process.env['CULVERT_TEST_CONNECTIONS'] ?? 2000);
/** Long enough to take in all that is sent, for a tunnel that would. */
const STALL_MS = 4000;
const BULK_MB = Number(process.env['CULVERT_TEST_BULK_MB'] ?? 256);

let scene: TunnelScene;
let tunnels: ChildProcess[];
let client: Pod;
let web: Pod;
let plain: Pod;
let onClient: App;
let onWeb: App;
let onPlain: App;

beforeAll(async () => {
  scene = await TunnelScene.create();
  tunnels = [await scene.tunnel('node1'), await scene.tunnel('node2')];
  client = await scene.pod('client', 'node1');
  web = await scene.pod('web', 'node2');
  plain = await scene.pod('plain', 'node2');
  await scene.enrol(client);
  await scene.enrol(web);
  onWeb = await scene.app(web);
  onClient = await scene.app(client);
  onPlain = await scene.app(plain);
  await onWeb.call('serve', {});
  await onPlain.call('serve', {});
});
afterAll(() => scene.close());

const mapped = (ip: string): string => (ip.includes(':') ? ip : `::ffff:${ip}`);
const residentMb = (child: ChildProcess): number =>
  Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${String(child.pid)}/status`, 'utf8'))?.[1]) / 1024;

describe.each(['ip4', 'ip6'] as const)('%s', (family) => {
  it('goes through HBONE between captured pods; the server sees the client, both logs name both identities', async () => {
    expect(await onClient.call('echo', { host: web[family], port: PORTS.echo })).toMatchObject({
      ok: true,
      remote: mapped(client[family]),
    });
    const identities = {
      'src.identity': 'spiffe://cluster.local/ns/shop/sa/client',
      'dst.identity': 'spiffe://cluster.local/ns/shop/sa/web',
    };
    for (const [name, direction] of [
      ['node1', 'outbound'],
      ['node2', 'inbound'],
    ] as const) {
      await eventually(`line in the log of ${name}`, () =>
        scene
          .logLines(name)
          .some(
            (line) =>
              line['direction'] === direction &&
              Object.entries(identities).every(([key, value]) => line[key] === value) &&
              String(line['dst.addr']).startsWith(family === 'ip4' ? web.ip4 : `[${web.ip6}]`),
          ),
      );
    }
  });

  it('goes plain to and from pods outside the mesh, with addresses kept', async () => {
    expect(await onClient.call('echo', { host: plain[family], port: PORTS.echo })).toMatchObject({
      ok: true,
      remote: mapped(client[family]),
    });
    expect(await onPlain.call('echo', { host: web[family], port: PORTS.echo })).toMatchObject({ ok: true, remote: mapped(plain[family]) });
  });

  it('lets the server speak first, keeps half-close, passes resets', async () => {
    expect(await onClient.call('first', { host: web[family], port: PORTS.first })).toEqual({ text: 'welcome' });
    expect(await onClient.call('tail', { host: web[family], port: PORTS.tail })).toEqual({ text: 'after the end: half' });
    expect(await onClient.call('reset', { host: web[family], port: PORTS.reset })).toEqual({ code: 'ECONNRESET' });
  });

  it.each([15001, 15006, 15008, 15053])("refuses a pod's own door %d, of itself and of others", async (port) => {
    for (const host of [web[family], client[family]]) expect(await onClient.call('echo', { host, port })).toMatchObject({ ok: false });
    expect(await onPlain.call('echo', { host: web[family], port })).toMatchObject({ ok: false });
  });
});

describe('a service', () => {
  it('is reached by its virtual address', async () => {
    expect(await onClient.call('echo', { host: '10.99.0.2', port: 80 })).toMatchObject({ ok: true, remote: mapped(client.ip4) });
  });

  it('reaches the caller itself', async () => {
    const self = await scene.app(client);
    await self.call('serve', {});
    expect(await onClient.call('echo', { host: '10.99.0.1', port: 80 })).toMatchObject({ ok: true });
  });
});

describe('a pod without IPv6', () => {
  it('is served like any other', async () => {
    const old = await scene.pod('old', 'node2', { ipv6: false });
    await scene.enrol(old);
    const onOld = await scene.app(old);
    await onOld.call('serve', {});
    expect(await onClient.call('echo', { host: old.ip4, port: PORTS.echo })).toMatchObject({ ok: true });
    expect(await onOld.call('echo', { host: web.ip4, port: PORTS.echo })).toMatchObject({ ok: true, remote: mapped(old.ip4) });
    await eventually('it went through HBONE', () =>
      scene
        .logLines('node2')
        .some((line) => line['dst.workload'] === 'old' && line['src.identity'] === 'spiffe://cluster.local/ns/shop/sa/client'),
    );
  });
});

describe('a pod that serves many clients', () => {
  it('keeps its ephemeral ports for its own connections', async () => {
    const busy = await scene.pod('busy', 'node2');
    native.netnsRun(busy.netnsFd, [{ op: 'sysctl', path: 'net.ipv4.ip_local_port_range', value: '40000 40029' }]);
    await scene.enrol(busy);
    const onBusy = await scene.app(busy);
    await onBusy.call('serve', {});
    // the client ends first, so the tunnel's connection to the app stays in TIME_WAIT
    for (let i = 0; i < 60; i++)
      expect(await onClient.call('bulk', { host: busy.ip4, port: PORTS.sink, bytes: 1 })).toMatchObject({ ok: true });
    for (let i = 0; i < 10; i++) expect(await onBusy.call('echo', { host: web.ip4, port: PORTS.echo })).toMatchObject({ ok: true });
  });
});

describe('load', () => {
  it(`carries ${CONNECTIONS} short connections without a failure`, async () => {
    const result = await onClient.call('many', { host: web.ip4, port: PORTS.echo, count: CONNECTIONS, parallel: 8 });
    expect(result).toMatchObject({ ok: CONNECTIONS, errors: {} });
    console.log(`short connections through two tunnels: ${(CONNECTIONS / result.seconds).toFixed(0)}/s`);
  });

  it(`carries ${BULK_MB} MB unchanged`, async () => {
    const { ok, seconds } = await onClient.call('bulk', { host: web.ip4, port: PORTS.sink, bytes: BULK_MB * 2 ** 20 });
    expect(ok).toBe(true);
    console.log(`bulk through two tunnels: ${(BULK_MB / seconds).toFixed(0)} MB/s`);
  });

  it('carries much both ways at once over one HBONE connection', async () => {
    expect(await onClient.call('mirror', { host: web.ip4, port: PORTS.mirror, parallel: 16, bytes: 8 << 20 })).toEqual({ ok: 16 });
  });

  it('holds its memory while a reader stalls, and loses nothing', async () => {
    const before = tunnels.map(residentMb);
    let most = before;
    const watch = setInterval(() => {
      most = tunnels.map((tunnel, index) => Math.max(residentMb(tunnel), most[index] ?? 0));
    }, 100);
    const sent = onClient.call('bulk', { host: web.ip4, port: PORTS.stall, bytes: 256 << 20 });
    await sleep(STALL_MS);
    await onWeb.call('resume', {});
    const { ok } = await sent;
    clearInterval(watch);
    expect(ok).toBe(true);
    const text = (sizes: number[]): string => sizes.map((size) => size.toFixed(0)).join(' and ');
    console.log(`resident memory of the tunnels: ${text(before)} MB before the stall, ${text(most)} MB at most during it`);
    most.forEach((peak, index) => expect(peak - (before[index] ?? 0)).toBeLessThan(96));
  });
});

describe('what the admin door says', () => {
  it('lists certificates and live connections with their peers', async () => {
    const dump = await scene.dump('node1');
    expect(dump.certificates).toMatchObject([{ identity: 'spiffe://cluster.local/ns/shop/sa/client', state: 'Available', node: 'node1' }]);
    const stalled = onClient.call('tail', { host: web.ip4, port: PORTS.stall });
    await eventually('connection listed', async () => {
      const { connections } = await scene.dump('node1');
      return connections.some(
        ({ pod, direction, peerIdentity, originalDst }) =>
          pod === 'shop/client' &&
          direction === 'outbound' &&
          peerIdentity === 'spiffe://cluster.local/ns/shop/sa/web' &&
          originalDst === `${web.ip4}:${String(PORTS.stall)}`,
      );
    });
    await onWeb.call('resume', {});
    await stalled;
  });
});

describe('life and death', () => {
  it('serves on while the agent is away, and meets it again at once', async () => {
    const { ZdsServer } = await import('../../../src/zds/server.ts');
    const { seqpacketListen } = await import('../../../src/sys/seqpacket.ts');
    const { createLogger } = await import('../../../src/base/log.ts');
    const old = scene.servers.get('node2')!;
    old.close();
    expect(await onClient.call('echo', { host: web.ip4, port: PORTS.echo })).toMatchObject({ ok: true });
    await new Promise((resolve) => setTimeout(resolve, 1500));
    const server = new ZdsServer({
      listen: (onConnection) => seqpacketListen(scene.zdsSocket('node2'), 1024, onConnection),
      log: createLogger('test', 'silent'),
    });
    scene.servers.set('node2', server);
    server.provide({ uid: 'uid-web', info: { name: 'web', namespace: 'shop', serviceAccount: 'web' }, netnsFd: web.netnsFd });
    server.open();
    await eventually('it is back', () => server.connections().length === 1);
    expect(await onClient.call('echo', { host: web.ip4, port: PORTS.echo })).toMatchObject({ ok: true });
  });

  it('ends by SIGTERM with what is open, and a successor takes over', async () => {
    const open = onClient.call('bulk', { host: web.ip4, port: PORTS.sink, bytes: 64 << 20 });
    const successor = await scene.tunnel('node2');
    await eventually('it serves', async () => 'uid-web' in (await scene.dump('node2')).workloadState);
    expect(await scene.end(tunnels[1]!, 'SIGTERM')).toBe(0);
    expect((await open).ok).toBe(true);
    expect(await onClient.call('echo', { host: web.ip4, port: PORTS.echo })).toMatchObject({ ok: true });
    tunnels[1] = successor;
  });

  it('refuses at once when it is dead', async () => {
    await scene.end(tunnels[0]!, 'SIGKILL');
    const result = await onClient.call('echo', { host: web.ip4, port: PORTS.echo });
    expect(result).toMatchObject({ ok: false, error: 'ECONNREFUSED' });
    tunnels[0] = await scene.tunnel('node1');
    const info = { name: 'client', namespace: 'shop', serviceAccount: 'client' };
    await scene.servers.get('node1')!.add({ uid: 'uid-client', info, netnsFd: client.netnsFd });
    expect(await onClient.call('echo', { host: web.ip4, port: PORTS.echo })).toMatchObject({ ok: true });
  });

  it('ends connections and listeners of a pod that leaves', async () => {
    const open = onClient.call('tail', { host: web.ip4, port: PORTS.stall }).then(
      ({ text }) => text,
      () => 'failed',
    );
    await eventually('open', async () => (await scene.dump('node1')).connections.length > 0);
    await scene.servers.get('node1')!.del('uid-client');
    expect((await scene.dump('node1')).workloadState).toEqual({});
    expect(await open).not.toContain('after');
    expect(await onClient.call('echo', { host: web.ip4, port: PORTS.echo })).toMatchObject({ ok: false });
  });
});
