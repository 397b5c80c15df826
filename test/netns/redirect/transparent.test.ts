/**
 * A tunnel whose listener on 15001 is not transparent, as that of Istio's with ENABLE_ORIG_SRC=false: the kernel drops its answers from
 * foreign IPv4 addresses, so that a connection handed to it would hang.
 */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { podState } from '../../../src/maps/index.ts';
import type { Endpoint, TestPod } from '../../support/netns.ts';
import { eventually, Scene, TUNNEL_PORTS } from './scene.ts';

const NOT_TRANSPARENT = /listener on port 15001 is not transparent.*ENABLE_ORIG_SRC/;
const OUT = { host: '10.77.200.1', port: 81 };

let scene: Scene;
let good: Endpoint;
let bad: Endpoint;

beforeAll(async () => {
  scene = await Scene.create();
  [good, bad] = await Promise.all([scene.tunnel(), scene.tunnel()]);
});
afterAll(() => scene.close());

const serve = (tunnel: Endpoint, pod: TestPod, transparent: boolean): Promise<unknown> =>
  tunnel.call('serve', { name: transparent ? 'good' : 'bad', netns: pod.netns, ports: TUNNEL_PORTS, transparent });
const app = (pod: TestPod): Promise<Endpoint> => scene.app(pod);

test('what would be: over IPv4 a captured connection hangs, over IPv6 it does not, nor does anything inbound', async () => {
  const [pod, other] = await Promise.all([scene.node.pod('hang', 2), scene.node.pod('other', 3)]);
  const [client, stranger] = await Promise.all([app(pod), app(other)]);
  const { cookie } = await scene.prepare(pod);
  await serve(bad, pod, false);
  await client.call('listen', { name: 'app', host: '::', port: 8080 });
  const maps = scene.maps();
  maps.pods.set(cookie, { ...maps.pods.get(cookie)!, state: podState.POD_ACTIVE }); // past the check
  maps.close();
  expect(await client.call('connect', { ...OUT, timeoutMs: 400 })).toMatchObject({ ok: false, code: 'ETIMEDOUT' });
  expect((await client.call('connect', { host: 'fd77::c8:1', port: 81 })).greeting?.by).toBe('bad:15001');
  for (const host of [pod.ip4, pod.ip6]) {
    expect((await stranger.call('connect', { host, port: 8080 })).greeting?.by).toBe('app');
    expect((await stranger.call('connect', { host, port: 15008 })).greeting?.by).toBe('bad:15008');
  }
  await scene.remove(pod, cookie);
});

test('a pod does not join with it, and is as plain as before; with another tunnel it joins', async () => {
  const pod = await scene.node.pod('join', 4);
  const client = await app(pod);
  const { cookie } = await scene.prepare(pod);
  await serve(bad, pod, false);
  expect(() => scene.driver.activate(cookie)).toThrow(NOT_TRANSPARENT);
  expect(scene.driver.snapshot()).toContainEqual(expect.objectContaining({ cookie, state: 'prepared' }));
  expect(await client.call('connect', { host: '10.77.0.1', port: 9 })).toMatchObject({ code: 'ECONNREFUSED' });
  expect(scene.driver.counters(cookie).outboundRedirected).toBe(0);
  await serve(good, pod, true);
  scene.driver.activate(cookie);
  expect((await client.call('connect', OUT)).greeting?.by).toBe('good:15001');
  await scene.remove(pod, cookie);
});

test('one that comes later gets nothing outbound: the tunnel before it goes on; without one it is refused at once; both are told', async () => {
  const pod = await scene.node.pod('later', 5);
  const client = await app(pod);
  const { cookie } = await scene.prepare(pod);
  await serve(good, pod, true);
  scene.driver.activate(cookie);
  await scene.driver.recheckPods(); // the look that joining begins is over: what is seen from here on is seen because it starts
  expect(await scene.warnings(pod, cookie)).toEqual([]);
  let told = 0;
  const listening = scene.driver.onWarnings(() => told++);
  await serve(bad, pod, false);
  await eventually('it is told', () => told === 1);
  expect(await scene.warnings(pod, cookie)).toEqual([expect.stringMatching(NOT_TRANSPARENT)]);
  expect((await client.call('connect', OUT)).greeting?.by).toBe('good:15001');

  await good.call('unserve', { name: 'good' });
  for (const host of [OUT.host, 'fd77::c8:1', `::ffff:${OUT.host}`])
    expect(await client.call('connect', { host, port: 81 })).toMatchObject({ code: 'ECONNREFUSED' });
  expect(scene.driver.listeners(cookie)).toContainEqual({ port: 15001, alive: false });

  // an agent that starts again, and looks at who listens, is not misled
  scene.restart();
  await scene.prepare(pod);
  scene.driver.adoptListeners(cookie, bad.pid);
  expect(await client.call('connect', OUT)).toMatchObject({ code: 'ECONNREFUSED' });

  await bad.call('unserve', { name: 'bad' });
  await serve(good, pod, true);
  expect((await client.call('connect', OUT)).greeting?.by).toBe('good:15001');
  expect(await scene.warnings(pod, cookie)).toEqual([]);
  listening.close();
  await scene.remove(pod, cookie);
});

test('a pod without IPv4 is served by it', async () => {
  const pod = await scene.node.pod('six', 6);
  await scene.node.ipIn(pod.netnsName, `addr del ${pod.ip4}/16 dev eth0`);
  const client = await app(pod);
  const { cookie } = await scene.prepare(pod);
  await serve(bad, pod, false);
  scene.driver.activate(cookie);
  expect((await client.call('connect', { host: 'fd77::c8:1', port: 81 })).greeting?.by).toBe('bad:15001');
  expect(await scene.warnings(pod, cookie)).toEqual([]);
  await scene.remove(pod, cookie);
});
