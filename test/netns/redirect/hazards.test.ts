/** What docs/hazards.md names and no other test has: ways of using sockets and namespaces that a redirect may overlook. */
import { execFileSync } from 'node:child_process';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Endpoint, TestPod } from '../../support/netns.ts';
import { Scene } from './scene.ts';

const OUT = { v4: '10.77.200.1', v6: 'fd77::c8:1' };
const families = ['v4', 'v6'] as const;

let scene: Scene;
let tunnel: Endpoint;
let app: Endpoint;
let stranger: Endpoint;
let pod: TestPod;
let cookie: bigint;

beforeAll(async () => {
  scene = await Scene.create();
  pod = await scene.node.pod('a', 2);
  const other = await scene.node.pod('b', 3);
  [tunnel, app, stranger] = await Promise.all([scene.tunnel(), scene.app(pod), scene.app(other)]);
  cookie = await scene.enrol(pod, tunnel);
  await app.call('listen', { name: 'app', host: '::', port: 8080 });
});
afterAll(() => scene.close());

const own = (family: (typeof families)[number]): string => (family === 'v4' ? pod.ip4 : pod.ip6);

/** Captured both ways, with the addresses that there are. */
async function captured(): Promise<void> {
  for (const family of families) {
    const out = await app.call('connect', { host: OUT[family], port: 81 });
    expect(out.greeting?.by, `out by ${family}`).toBe('tunnel-a:15001');
    expect(out.greeting?.local.endsWith(`${OUT[family]} 81`), out.greeting?.local).toBe(true);
    const before = scene.driver.counters(cookie).inboundRedirected;
    const inbound = await stranger.call('connect', { host: own(family), port: 8080 });
    expect(inbound.greeting?.by, `in by ${family}`).toBe('app');
    // with cookies the handshake's last ACK is looked up as well
    expect(scene.driver.counters(cookie).inboundRedirected).toBeGreaterThan(before);
  }
}

test('a process from elsewhere that enters the pod’s network is captured as the pod’s own', async () => {
  const elsewhere = await scene.node.process('elsewhere', pod.netns);
  for (const family of families)
    expect((await elsewhere.call('connect', { host: OUT[family], port: 81 })).greeting?.by).toBe('tunnel-a:15001');
  await elsewhere.kill();
});

test('the app’s peer is the destination that it asked for', async () => {
  for (const family of families)
    expect(await app.call('connect', { host: OUT[family], port: 81 })).toMatchObject({ remote: `${OUT[family]} 81` });
});

test('addresses of other devices in the pod are its own', async () => {
  await scene.node.ipIn(
    pod.netnsName,
    'link add docker0 type bridge',
    'link set docker0 up',
    'addr add 172.17.0.1/16 dev docker0',
    'addr add fd17::1/64 dev docker0 nodad',
  );
  // the watch hears of it; a connection before that goes through the tunnel
  await expect
    .poll(async () =>
      (await Promise.all(['172.17.0.1', 'fd17::1'].map((host) => app.call('connect', { host, port: 8080 })))).map((r) => r.greeting?.by),
    )
    .toEqual(['app', 'app']);
  expect((await app.call('connect', { host: '172.17.0.2', port: 81 })).greeting?.by).toBe('tunnel-a:15001');
  await scene.node.ipIn(pod.netnsName, 'link del docker0');
});

test('more at once than a listener’s queue holds (128) all arrive', async () => {
  const results = await Promise.all(
    Array.from({ length: 300 }, (_, i) => app.call('connect', { host: OUT[i % 2 === 0 ? 'v4' : 'v6'], port: 81, timeoutMs: 10_000 })),
  );
  expect(results.filter((result) => result.greeting?.by !== 'tunnel-a:15001')).toEqual([]);
});

describe('a pod whose own settings are unusual is captured both ways', () => {
  test('SYN cookies for every connection', async () => {
    await scene.node.sysctl(pod, 'net/ipv4/tcp_syncookies', '2');
    await captured();
    await scene.node.sysctl(pod, 'net/ipv4/tcp_syncookies', '1');
  });

  test('strict reverse path filter on all devices', async () => {
    for (const device of ['all', 'lo', 'eth0']) await scene.node.sysctl(pod, `net/ipv4/conf/${device}/rp_filter`, '1');
    await captured();
    for (const device of ['all', 'lo', 'eth0']) await scene.node.sysctl(pod, `net/ipv4/conf/${device}/rp_filter`, '0');
  });

  test('connection tracking in use, invalid packets dropped', async () => {
    const rules = `table inet mine {
      chain in { type filter hook input priority 0; meta l4proto ipv6-icmp accept; ct state new,established,related accept; drop; }
      chain out { type filter hook output priority 0; ct state invalid drop; }
    }`;
    execFileSync('ip', ['netns', 'exec', pod.netnsName, 'nft', '-f', '-'], { input: rules });
    await captured();
    execFileSync('ip', ['netns', 'exec', pod.netnsName, 'nft', 'delete', 'table', 'inet', 'mine']);
  });
});
