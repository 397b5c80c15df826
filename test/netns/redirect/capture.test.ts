import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { DatapathEvent } from '../../../src/redirect/driver.ts';
import type { Endpoint, TestPod } from '../../support/netns.ts';
import { Scene, TUNNEL_PORTS, eventually } from './scene.ts';

let scene: Scene;
let tunnel: Endpoint;
let app: Endpoint;
let stranger: Endpoint;
let pod: TestPod;
let other: TestPod;
let cookie: bigint;

beforeAll(async () => {
  scene = await Scene.create();
  pod = await scene.node.pod('a', 2);
  other = await scene.node.pod('b', 3);
  [tunnel, app, stranger] = await Promise.all([scene.tunnel(), scene.app(pod), scene.app(other)]);
  cookie = await scene.enrol(pod, tunnel);
  await app.call('listen', { name: 'app', host: '::', port: 8080 });
  await stranger.call('listen', { name: 'stranger', host: '::', port: 8080 });
});
afterAll(() => scene.close());

describe('outbound', () => {
  test.each([
    ['IPv4', () => ({ host: '10.77.200.1', local: '::ffff:10.77.200.1 81', remote: `::ffff:${pod.ip4}` })],
    ['IPv6', () => ({ host: 'fd77::c8:1', local: 'fd77::c8:1 81', remote: pod.ip6 })],
    ['IPv4-mapped', () => ({ host: '::ffff:10.77.200.1', local: '::ffff:10.77.200.1 81', remote: `::ffff:${pod.ip4}` })],
  ])('%s: the tunnel accepts, its local address is the original destination', async (_, of) => {
    const { host, local, remote } = of();
    const before = scene.driver.counters(cookie).outboundRedirected;
    const result = await app.call('connect', { host, port: 81 });
    expect(result).toMatchObject({ ok: true, greeting: { by: 'tunnel-a:15001', local } });
    expect(result.greeting?.remote.split(' ')[0]).toBe(remote);
    expect(scene.driver.counters(cookie).outboundRedirected).toBe(before + 1);
  });

  test('a destination that exists is captured, too', async () => {
    expect((await app.call('connect', { host: other.ip4, port: 8080 })).greeting?.by).toBe('tunnel-a:15001');
  });

  test('the own address and loopback are left alone, by either family', async () => {
    for (const host of [pod.ip4, pod.ip6, '127.0.0.1', '::1', `::ffff:${pod.ip4}`]) {
      expect((await app.call('connect', { host, port: 8080 })).greeting?.by, host).toBe('app');
    }
  });

  test('a pod that is not enrolled is left alone', async () => {
    expect((await stranger.call('connect', { host: other.ip4, port: 8080 })).greeting?.by).toBe('stranger');
  });
});

describe('inbound', () => {
  test.each([
    ['IPv4', () => [pod.ip4, `::ffff:${other.ip4}`]],
    ['IPv6', () => [pod.ip6, other.ip6]],
  ])('%s: through 15006 to the app, which sees the client, and the answer comes back', async (_, of) => {
    const [host = '', client = ''] = of();
    const before = scene.driver.counters(cookie).inboundRedirected;
    const result = await stranger.call('connect', { host, port: 8080 });
    expect(result.greeting?.by).toBe('app');
    expect(result.greeting?.remote.split(' ')[0]).toBe(client);
    expect(scene.driver.counters(cookie).inboundRedirected).toBe(before + 1);
    // the source port differs: the tunnel's connection, not the client's
    expect(result.greeting?.remote.split(' ')[1]).not.toBe(result.local?.split(' ')[1]);
  });

  test('15008 is the tunnel’s', async () => {
    const before = scene.driver.hboneAccepted(cookie);
    expect((await stranger.call('connect', { host: pod.ip4, port: 15008 })).greeting?.by).toBe('tunnel-a:15008');
    expect(scene.driver.hboneAccepted(cookie)).toBe(before + 1);
  });

  test('a port without listener is refused through the tunnel, not left hanging', async () => {
    const result = await stranger.call('connect', { host: pod.ip4, port: 9 });
    expect(result.ok).toBe(false);
    expect(result.code).not.toBe('ETIMEDOUT');
  });

  test('a process of the node reaches the app directly: probes are exempt', async () => {
    const kubelet = await scene.node.process('kubelet', scene.node.nodeNetns);
    const before = scene.driver.counters(cookie).inboundRedirected;
    for (const host of [pod.ip4, pod.ip6]) {
      const result = await kubelet.call('connect', { host, port: 8080 });
      expect(result.greeting).toMatchObject({
        by: 'app',
        remote: result.local?.includes(':') === false ? `::ffff:${result.local}` : result.local,
      });
    }
    expect(scene.driver.counters(cookie).inboundRedirected).toBe(before);
    expect(scene.driver.counters(cookie).inboundPassed['exempt']).toBe(2);
    await kubelet.kill();
  });
});

describe('who is the tunnel', () => {
  test('a listener with the mark in an app’s cgroup is refused and counted', async () => {
    const impostor = await scene.node.process('app', scene.node.nodeNetns);
    await impostor.call('serve', { name: 'impostor', netns: pod.netns, ports: [15001] });
    expect((await app.call('connect', { host: '10.77.200.1', port: 81 })).greeting?.by).toBe('tunnel-a:15001');
    await impostor.kill();
  });

  test('two tunnels: new connections go to the newest; when it dies, to the one before', async () => {
    const newer = await scene.tunnel();
    await newer.call('serve', { name: 'newer', netns: pod.netns, ports: TUNNEL_PORTS });
    for (let i = 0; i < 5; i++) expect((await app.call('connect', { host: '10.77.200.1', port: 81 })).greeting?.by).toBe('newer:15001');
    await newer.kill();
    expect((await app.call('connect', { host: '10.77.200.1', port: 81 })).greeting?.by).toBe('tunnel-a:15001');
  });

  test('without any tunnel: refused at once, outbound and inbound, counted; a new one is used at once', async () => {
    await tunnel.kill();
    expect(scene.driver.listeners(cookie).every((l) => !l.alive)).toBe(true);
    for (const host of ['10.77.200.1', 'fd77::c8:1', '::ffff:10.77.200.1']) {
      const out = await app.call('connect', { host, port: 81 });
      expect(out, host).toMatchObject({ ok: false, code: 'ECONNREFUSED' });
    }
    const inbound = await stranger.call('connect', { host: pod.ip4, port: 8080 });
    expect(inbound).toMatchObject({ ok: false, code: 'ECONNREFUSED' });
    expect(scene.driver.counters(cookie).dropped['no-tunnel']).toBeGreaterThanOrEqual(4);
    tunnel = await scene.tunnel();
    await tunnel.call('serve', { name: 'back', netns: pod.netns, ports: TUNNEL_PORTS });
    expect(scene.driver.listeners(cookie)).toEqual(TUNNEL_PORTS.map((port) => ({ port, alive: true })));
    expect((await app.call('connect', { host: '10.77.200.1', port: 81 })).greeting?.by).toBe('back:15001');
  });
});

test('events tell each connection while somebody listens', async () => {
  const events: DatapathEvent[] = [];
  const subscription = scene.driver.onEvent((event) => events.push(event));
  await app.call('connect', { host: '10.77.200.9', port: 81 });
  await eventually('event of the connection', () => events.some((e) => e.dst === '10.77.200.9:81' && e.reason === 'accepted'));
  const seen = events.find((e) => e.dst === '10.77.200.9:81' && e.reason === 'accepted');
  expect(seen).toMatchObject({ cookie, direction: 'outbound', verdict: 'redirected' });
  expect(seen?.src).toMatch(new RegExp(`^${pod.ip4}:\\d+$`));
  expect(Math.abs(Date.parse(seen?.time ?? '') - Date.now())).toBeLessThan(60_000);
  subscription.close();
  const count = events.length;
  await app.call('connect', { host: '10.77.200.9', port: 81 });
  await new Promise((resolve) => setTimeout(resolve, 250));
  expect(events.length).toBe(count);
});

test('an app binds a port while a captured connection to that port is open', async () => {
  expect((await app.call('open', { name: 'busy', host: '10.77.200.1', port: 7070 })).ok).toBe(true);
  expect(await app.call('listen', { name: 'on 7070', host: '0.0.0.0', port: 7070 })).toEqual({});
  expect((await app.call('echo', { name: 'busy', text: 'still here' })).ok).toBe(true);
});
