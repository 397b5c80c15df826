import { execFileSync } from 'node:child_process';
import { mkdirSync, rmdirSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { wire } from '../../../src/maps/index.ts';
import { native } from '../../../src/sys/native.ts';
import { Netns } from '../../../src/sys/netns.ts';
import { settingsOf, tree, type Endpoint, type TestPod } from '../../support/netns.ts';
import { Scene, TUNNEL_PORTS, eventually, linkOf, withFd } from './scene.ts';

let scene: Scene;
let tunnel: Endpoint;
let other: TestPod;
let stranger: Endpoint;
let next = 10;

beforeAll(async () => {
  scene = await Scene.create();
  tunnel = await scene.tunnel();
  other = await scene.node.pod('other', 3);
  stranger = await scene.app(other);
});
afterAll(() => scene.close());

const newPod = (name: string, options?: { ipv6?: boolean }): Promise<TestPod> => scene.node.pod(name, next++, options);

/** Entries of a cookie in every map. */
function entriesOf(cookie: bigint): Record<string, number> {
  const maps = scene.maps();
  try {
    const has = (key: unknown): boolean =>
      JSON.stringify(key, (_, v: unknown) => (typeof v === 'bigint' ? `#${v}` : v)).includes(`#${cookie}`);
    const count = (entries: { key: unknown; value: unknown }[]): number =>
      entries.filter(({ key, value }) => has(key) || value === cookie).length;
    return Object.fromEntries(
      (['pods', 'identity', 'own', 'listeners', 'generation', 'podByAddr', 'counters'] as const)
        .map((name) => [name, count(maps[name].entries())] as const)
        .filter(([, n]) => n > 0),
    );
  } finally {
    maps.close();
  }
}

describe('joining', () => {
  test('prepared captures nothing; active does; twice is once', async () => {
    const pod = await newPod('twice');
    const app = await scene.app(pod);
    const first = await scene.prepare(pod);
    expect(first).toMatchObject({ uid: 'uid-twice', namespace: 'test', name: 'twice', netnsPath: pod.netns, state: 'prepared' });
    const refused = await app.call('connect', { host: '10.77.0.1', port: 1 });
    expect(refused).toMatchObject({ ok: false, code: 'ECONNREFUSED' }); // by the node, on the wire
    expect(scene.driver.counters(first.cookie).outboundPassed['inactive']).toBe(1);
    const settings = settingsOf(pod.netnsName);
    const link = linkOf(`${scene.pinDir}/pods/${first.cookie.toString(16)}/lookup`);

    await tunnel.call('serve', { name: 'twice', netns: pod.netns, ports: TUNNEL_PORTS });
    scene.driver.activate(first.cookie);
    scene.driver.activate(first.cookie);
    expect(await scene.prepare(pod)).toMatchObject({ cookie: first.cookie, state: 'active' });
    expect(settingsOf(pod.netnsName)).toBe(settings);
    expect(linkOf(`${scene.pinDir}/pods/${first.cookie.toString(16)}/lookup`)).toEqual(link);
    expect((await app.call('connect', { host: '10.77.200.1', port: 81 })).greeting?.by).toBe('twice:15001');
    expect(scene.driver.snapshot().filter((p) => p.cookie === first.cookie)).toHaveLength(1);
  });

  test('settings are the contract’s', async () => {
    const pod = await newPod('settings');
    await scene.prepare(pod);
    const settings = settingsOf(pod.netnsName);
    expect(settings.match(/32764:\tfrom all fwmark 0x111\/0xfff lookup 100/g)).toHaveLength(2);
    expect(settings.match(/32765:\tfrom all fwmark 0x111\/0xfff prohibit/g)).toHaveLength(2);
    expect(settings).toContain(`local default dev lo proto static scope host src ${pod.ip4}`);
    expect(settings).toMatch(new RegExp(`local default dev lo proto static src ${pod.ip6}`));
    expect(settings).toContain('ipv4/tcp_fwmark_accept 1\nipv4/fwmark_reflect 1\nipv6/fwmark_reflect 1');
  });

  test('a pod without IPv6', async () => {
    const pod = await newPod('four', { ipv6: false });
    const app = await scene.app(pod);
    const cookie = await scene.enrol(pod, tunnel);
    expect((await app.call('connect', { host: '10.77.200.1', port: 81 })).ok).toBe(true);
    await scene.remove(pod, cookie);
    expect(settingsOf(pod.netnsName)).not.toContain('0x111');
  });

  test('a pod whose lo is still down: it is brought up, and stays up', async () => {
    const pod = await newPod('early');
    execFileSync('ip', ['-n', pod.netnsName, 'link', 'set', 'lo', 'down']);
    const isUp = (): boolean =>
      execFileSync('ip', ['-n', pod.netnsName, 'link', 'show', 'dev', 'lo'], { encoding: 'utf8' }).includes('LOOPBACK,UP');
    expect(isUp()).toBe(false);
    const cookie = await scene.enrol(pod, tunnel);
    expect(isUp()).toBe(true);
    const app = await scene.app(pod);
    for (const host of ['10.77.200.1', 'fd77::c8:1'])
      expect((await app.call('connect', { host, port: 81 })).greeting?.by).toBe('tunnel-early:15001');
    await scene.remove(pod, cookie);
    expect(isUp()).toBe(true);
  });

  test('the node’s own netns and another pod’s netns are refused', async () => {
    const pod = await newPod('taken');
    await scene.prepare(pod);
    await expect(withFd(pod.netns, (fd) => scene.driver.prepare({ ...scene.target(pod, fd), uid: 'somebody-else' }))).rejects.toMatchObject(
      { code: 'NETNS_TAKEN' },
    );
    await expect(withFd(scene.node.nodeNetns, (fd) => scene.driver.prepare(scene.target(pod, fd)))).rejects.toMatchObject({
      code: 'NETNS_TAKEN',
    });
  });

  test('a failing step is undone: netns, pins and maps are as before', async () => {
    const pod = await newPod('undone');
    const cookie = await withFd(pod.netns, (fd) => native.netnsCookie(fd));
    const settings = settingsOf(pod.netnsName);
    // the link cannot be pinned where a directory is
    mkdirSync(`${scene.pinDir}/pods/${cookie.toString(16)}/lookup`, { recursive: true });
    await expect(scene.prepare(pod)).rejects.toMatchObject({ code: 'SYSTEM' });
    expect(settingsOf(pod.netnsName)).toBe(settings);
    expect(entriesOf(cookie)).toEqual({});
    await expect(scene.prepare(pod)).resolves.toMatchObject({ state: 'prepared' });
  });

  test('a tunnel that was there before is taken by its fd, once', async () => {
    const pod = await newPod('before');
    const app = await scene.app(pod);
    await tunnel.call('serve', { name: 'before', netns: pod.netns, ports: TUNNEL_PORTS });
    const { cookie } = await scene.prepare(pod);
    expect(scene.driver.listeners(cookie)).toEqual([]);
    expect(scene.driver.adoptListeners(cookie, tunnel.pid)).toBe(TUNNEL_PORTS.length);
    expect(scene.driver.adoptListeners(cookie, tunnel.pid)).toBe(0);
    expect(scene.driver.listeners(cookie)).toEqual(TUNNEL_PORTS.map((port) => ({ port, alive: true })));
    scene.driver.activate(cookie);
    for (const host of ['10.77.200.1', 'fd77::c8:1'])
      expect((await app.call('connect', { host, port: 81 })).greeting?.by).toBe('before:15001');
    await app.call('listen', { name: 'app', host: '::', port: 8080 });
    expect((await stranger.call('connect', { host: pod.ip4, port: 8080 })).greeting?.by).toBe('app');
  });
});

describe('leaving', () => {
  test('draining: new connections go direct, open ones go on, 15008 is answered', async () => {
    const pod = await newPod('drain');
    const app = await scene.app(pod);
    const cookie = await scene.enrol(pod, tunnel);
    await stranger.call('listen', { name: 'stranger', host: '::', port: 8081 });
    await app.call('listen', { name: 'app', host: '::', port: 8080 });
    expect((await app.call('open', { name: 'out', host: '10.77.200.1', port: 81 })).greeting?.by).toBe('tunnel-drain:15001');
    expect((await stranger.call('open', { name: 'in', host: pod.ip4, port: 8080 })).greeting?.by).toBe('app');
    scene.driver.drain(cookie);
    expect((await app.call('connect', { host: other.ip4, port: 8081 })).greeting?.by).toBe('stranger');
    const direct = await stranger.call('connect', { host: pod.ip4, port: 8080 });
    expect(direct.greeting).toMatchObject({ by: 'app', remote: `::ffff:${direct.local}` });
    const before = scene.driver.hboneAccepted(cookie);
    expect((await stranger.call('connect', { host: pod.ip4, port: 15008 })).greeting?.by).toBe('tunnel-drain:15008');
    expect(scene.driver.hboneAccepted(cookie)).toBe(before + 1);
    expect(await app.call('echo', { name: 'out', text: 'a' })).toEqual({ ok: true });
    expect(await stranger.call('echo', { name: 'in', text: 'b' })).toEqual({ ok: true });
    scene.driver.activate(cookie); // label on again
    expect((await app.call('connect', { host: other.ip4, port: 8081 })).greeting?.by).toBe('tunnel-drain:15001');
  });

  test('nothing is left: rules, routes, sysctls, pins, map entries', async () => {
    const pod = await newPod('clean');
    const app = await scene.app(pod);
    const settings = settingsOf(pod.netnsName);
    const pins = tree(scene.pinDir);
    const cookie = await scene.enrol(pod, tunnel);
    await app.call('connect', { host: '10.77.200.1', port: 81 });
    await app.call('open', { name: 'held', host: '10.77.200.1', port: 81 });
    expect(Object.keys(entriesOf(cookie)).toSorted()).toEqual([
      'counters',
      'generation',
      'identity',
      'listeners',
      'own',
      'podByAddr',
      'pods',
    ]);
    scene.driver.drain(cookie);
    await scene.remove(pod, cookie, 50);
    expect(settingsOf(pod.netnsName)).toBe(settings);
    expect(tree(scene.pinDir)).toEqual(pins);
    expect(entriesOf(cookie)).toEqual({});
    // what was captured and still open was destroyed, not left hanging
    expect((await app.call('echo', { name: 'held', text: 'x' })).ok).toBe(false);
    await scene.remove(pod, cookie); // twice is once
    // the tunnel's listeners were spared: it may be told later, or serve the pod again
    await scene.prepare(pod);
    expect(scene.driver.adoptListeners(cookie, tunnel.pid)).toBe(TUNNEL_PORTS.length);
    await scene.remove(pod, cookie);
    await stranger.call('listen', { name: 'plain', host: '::', port: 8082 });
    expect((await app.call('connect', { host: other.ip4, port: 8082 })).greeting?.by).toBe('plain');
  });

  test('waits for captured connections to end by themselves', async () => {
    const pod = await newPod('patient');
    const app = await scene.app(pod);
    const cookie = await scene.enrol(pod, tunnel);
    await app.call('open', { name: 'held', host: '10.77.200.1', port: 81 });
    scene.driver.drain(cookie);
    const removal = scene.remove(pod, cookie, 5000);
    await new Promise((resolve) => setTimeout(resolve, 150));
    expect(await app.call('echo', { name: 'held', text: 'alive' })).toEqual({ ok: true });
    await app.kill(); // both ends close
    await removal;
  });

  test('sysctls that were set before stay set', async () => {
    const pod = await newPod('kept');
    await withFd(pod.netns, (fd) => native.netnsRun(fd, [{ op: 'sysctl', path: 'net/ipv4/fwmark_reflect', value: '1' }]));
    const before = settingsOf(pod.netnsName);
    const { cookie } = await scene.prepare(pod);
    scene.restart();
    await withFd(pod.netns, (fd) => scene.driver.reconcile(scene.target(pod, fd)));
    await scene.remove(pod, cookie);
    expect(settingsOf(pod.netnsName)).toBe(before);
    expect(before).toContain('ipv4/fwmark_reflect 1');
  });

  test('a netns that is gone: what the kernel kept of it goes', async () => {
    const pod = await newPod('gone');
    const cookie = await scene.enrol(pod, tunnel);
    await tunnel.call('unserve', { name: 'tunnel-gone' });
    await scene.node.deletePod(pod);
    await scene.driver.remove(cookie, undefined, 0);
    expect(entriesOf(cookie)).toEqual({});
    expect(tree(`${scene.pinDir}/pods`)).not.toContain(cookie.toString(16));
  });
});

/** Connections of the netns that the tunnel has or is about to get, in its listeners' queues too. */
function captured(pod: TestPod): number {
  using netns = Netns.open(pod.netns);
  const marks = [wire.MARK_LOCAL, wire.MARK_TUNNEL];
  const sockets = marks.flatMap((mark) => netns.run({ op: 'sockets', mark, mask: wire.MARK_MASK }));
  return sockets.filter(({ sport }) => !TUNNEL_PORTS.includes(sport)).length;
}

test('twenty times on and off under load, in both directions and from the node: no connection fails', async () => {
  const pod = await newPod('toggled');
  const [app, kubelet] = await Promise.all([scene.app(pod), scene.node.process('kubelet', scene.node.nodeNetns)]);
  await stranger.call('listen', { name: 'busy', host: '::', port: 8090 });
  await app.call('listen', { name: 'app', host: '::', port: 8080 });
  const loads = [
    { from: app, to: { host: other.ip4, port: 8090 } },
    { from: app, to: { host: other.ip6, port: 8090 } },
    { from: stranger, to: { host: pod.ip4, port: 8080 } },
    { from: stranger, to: { host: pod.ip6, port: 8080 } },
    { from: kubelet, to: { host: pod.ip4, port: 8080 } },
  ];
  for (const { from, to } of loads) await from.call('load', { name: `${to.host} ${to.port}`, ...to });
  for (let i = 0; i < 20; i++) {
    const cookie = await scene.enrol(pod, tunnel);
    await new Promise((resolve) => setTimeout(resolve, 30));
    scene.driver.drain(cookie);
    // a real tunnel ends it cleanly: this one would reset what it has not accepted, or not passed on, when its listeners close
    await eventually('what was captured has ended', () => captured(pod) === 0);
    await tunnel.call('unserve', { name: 'tunnel-toggled' });
    await scene.remove(pod, cookie, 2000);
  }
  for (const { from, to } of loads) {
    const { ok, failed } = await from.call('stop', { name: `${to.host} ${to.port}` });
    expect(failed, `${to.host} ${to.port}`).toEqual({});
    expect(ok).toBeGreaterThan(20);
  }
  await kubelet.kill();
});

describe('a netns that changes', () => {
  test('rules and routes deleted by the app come back, counted', async () => {
    const pod = await newPod('tamper');
    const app = await scene.app(pod);
    const cookie = await scene.enrol(pod, tunnel);
    const settings = settingsOf(pod.netnsName);
    await scene.node.ipIn(pod.netnsName, 'rule del pref 32764', 'rule del pref 32765', 'route flush table 100');
    await scene.node.ip6In(pod.netnsName, 'rule del pref 32764', 'rule del pref 32765', 'route flush table 100');
    await eventually('the settings are back', () => settingsOf(pod.netnsName) === settings);
    expect(scene.driver.restored(cookie)).toBeGreaterThanOrEqual(6);
    for (const host of ['10.77.200.1', 'fd77::c8:1']) expect((await app.call('connect', { host, port: 81 })).ok).toBe(true);
  });

  test('without the local route captured connections are refused, they do not leave in the clear', async () => {
    const pod = await newPod('flushed');
    const app = await scene.app(pod);
    await scene.enrol(pod, tunnel);
    await stranger.call('listen', { name: 'in the clear', host: '::', port: 8083 });
    scene.driver.close(); // nobody restores
    await scene.node.ipIn(pod.netnsName, 'route flush table 100');
    expect(await app.call('connect', { host: other.ip4, port: 8083 })).toMatchObject({ ok: false, code: 'EACCES' });
    scene.driver = scene.start();
    await withFd(pod.netns, (fd) => scene.driver.reconcile(scene.target(pod, fd)));
    expect((await app.call('connect', { host: other.ip4, port: 8083 })).greeting?.by).toBe('tunnel-flushed:15001');
  });

  test('an address added later is own and probed, and forgotten when it goes', async () => {
    const pod = await newPod('later');
    const app = await scene.app(pod);
    const cookie = await scene.enrol(pod, tunnel);
    const has = (addr: string): { own: boolean; probed: boolean } => {
      const maps = scene.maps();
      try {
        return { own: maps.own.has({ cookie, addr }), probed: maps.podByAddr.get(addr) === cookie };
      } finally {
        maps.close();
      }
    };
    await scene.node.ipIn(
      pod.netnsName,
      'addr add 10.77.50.50/32 dev eth0',
      'addr add fd77:5::1/128 dev eth0 nodad',
      'addr add 10.77.50.51/32 dev lo',
    );
    await eventually('the addresses are own', () => has('10.77.50.50').own && has('fd77:5::1').own && has('10.77.50.51').own);
    expect([has('10.77.50.50').probed, has('fd77:5::1').probed, has('10.77.50.51').probed]).toEqual([true, true, false]);
    await app.call('listen', { name: 'app', host: '::', port: 8080 });
    expect((await app.call('connect', { host: '10.77.50.50', port: 8080 })).greeting?.by).toBe('app');
    await scene.node.ipIn(pod.netnsName, 'addr del 10.77.50.50/32 dev eth0');
    await eventually('the address is forgotten', () => !has('10.77.50.50').own && !has('10.77.50.50').probed);
    expect((await app.call('connect', { host: '10.77.50.50', port: 8080 })).greeting?.by).toBe('tunnel-later:15001');
  });

  test('the first address replaced: the local route gets the new source', async () => {
    const pod = await newPod('renumber');
    const app = await scene.app(pod);
    await scene.enrol(pod, tunnel);
    await scene.node.ipIn(
      pod.netnsName,
      'addr add 10.77.60.60/15 dev eth0',
      `addr del ${pod.ip4}/16 dev eth0`,
      'route replace default via 10.77.0.1',
    );
    await eventually('route with the new source', () => settingsOf(pod.netnsName).includes('src 10.77.60.60'));
    expect((await app.call('connect', { host: '10.77.200.1', port: 81 })).greeting?.remote).toMatch(/^::ffff:10\.77\.60\.60 /);
  });
});

test('a directory that is no pod’s does not disturb', () => {
  mkdirSync(`${scene.pinDir}/pods/readme`);
  expect(() => scene.restart()).not.toThrow();
  rmdirSync(`${scene.pinDir}/pods/readme`);
});
