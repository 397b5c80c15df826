import { existsSync, mkdirSync, rmdirSync, symlinkSync, unlinkSync } from 'node:fs';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { native } from '../../../src/sys/native.ts';
import { Netns } from '../../../src/sys/netns.ts';
import { createLogger } from '../../../src/base/log.ts';
import { probeEbpf, uninstallEbpf } from '../../../src/redirect/ebpf/index.ts';
import { shelter } from '../../../src/redirect/istio-cni/shelter.ts';
import { programs } from '../../../src/maps/index.ts';
import { settingsOf, tree } from '../../support/netns.ts';
import { INSTANCE, Scene, eventually, linkOf, withFd, type Link } from './scene.ts';

let scene: Scene;
beforeEach(async () => void (scene = await Scene.create()));
afterEach(() => scene.close());

const CGROUP_LINKS = programs.filter((p) => p !== 'lookup');
const links = (): Record<string, Link> =>
  Object.fromEntries(tree(`${scene.pinDir}/links`).map((name) => [name, linkOf(`${scene.pinDir}/links/${name}`)]));

test('the probe says yes here, with nothing missing, and why not elsewhere', () => {
  const options = { pinDir: scene.pinDir, cgroupRoot: scene.node.cgroupRoot, nodeNetns: scene.node.nodeNetns };
  expect(probeEbpf(options)).toMatchObject({
    usable: true,
    reasons: [],
    features: { retval: true, bindSetsockopt: true, sockopsCookie: true },
  });
  const elsewhere = probeEbpf({ pinDir: '/tmp/nowhere', cgroupRoot: '/tmp', nodeNetns: '/proc/self/ns/mnt' });
  expect(elsewhere.usable).toBe(false);
  expect(elsewhere.reasons).toEqual([
    expect.stringContaining('/proc/self/ns/mnt'),
    '/tmp is not a cgroup v2 directory',
    '/tmp/nowhere is not on a mounted bpffs',
  ]);
});

test('one link per cgroup program, all maps pinned, no names left over', () => {
  expect(Object.keys(links()).toSorted()).toEqual([...CGROUP_LINKS].toSorted());
  expect(tree(scene.pinDir).filter((name) => name.startsWith('tmp'))).toEqual([]);
});

test('a restart adopts: link and program ids are the same, pods are known, their traffic goes on', async () => {
  const pod = await scene.node.pod('a', 2);
  const [tunnel, app] = await Promise.all([scene.tunnel(), scene.app(pod)]);
  const cookie = await scene.enrol(pod, tunnel);
  await app.call('open', { name: 'open', host: '10.77.200.1', port: 81 });
  const lookup = `${scene.pinDir}/pods/${cookie.toString(16)}/lookup`;
  const before = { ...links(), lookup: linkOf(lookup) };
  const settings = settingsOf(pod.netnsName);

  await app.call('load', { name: 'load', host: '10.77.200.2', port: 81 });
  scene.driver.close();
  expect((await app.call('connect', { host: '10.77.200.1', port: 81 })).ok).toBe(true); // no agent
  scene.driver = scene.start();
  expect(scene.driver.snapshot()).toMatchObject([{ cookie, uid: 'uid-a', name: 'a', netnsPath: pod.netns, state: 'active' }]);
  expect(await withFd(pod.netns, (fd) => scene.driver.reconcile(scene.target(pod, fd)))).toMatchObject({ state: 'active' });
  const load = await app.call('stop', { name: 'load' });
  expect(load.failed).toEqual({});
  expect(load.ok).toBeGreaterThan(0);
  expect({ ...links(), lookup: linkOf(lookup) }).toEqual(before);
  expect(settingsOf(pod.netnsName)).toBe(settings);
  expect(await app.call('echo', { name: 'open', text: 'x' })).toEqual({ ok: true });
});

test('what changed while the agent was away is repaired by reconcile', async () => {
  const pod = await scene.node.pod('a', 2);
  const [tunnel, app] = await Promise.all([scene.tunnel(), scene.app(pod)]);
  const cookie = await scene.enrol(pod, tunnel);
  const settings = settingsOf(pod.netnsName);
  scene.driver.close();
  await scene.node.ipIn(pod.netnsName, 'rule del pref 32764', 'route flush table 100', 'addr add 10.77.40.40/32 dev eth0');
  scene.driver = scene.start();
  await withFd(pod.netns, (fd) => scene.driver.reconcile(scene.target(pod, fd)));
  expect(settingsOf(pod.netnsName)).toBe(settings);
  const maps = scene.maps();
  expect(maps.own.has({ cookie, addr: '10.77.40.40' })).toBe(true);
  maps.close();
  expect((await app.call('connect', { host: '10.77.200.1', port: 81 })).ok).toBe(true);
});

test('another program: swapped by link update, one link at a time, under traffic', async () => {
  const pod = await scene.node.pod('a', 2);
  const [tunnel, app] = await Promise.all([scene.tunnel(), scene.app(pod)]);
  const cookie = await scene.enrol(pod, tunnel);
  const lookup = `${scene.pinDir}/pods/${cookie.toString(16)}/lookup`;
  const before = { ...links(), lookup: linkOf(lookup) };
  await app.call('load', { name: 'load', host: '10.77.200.2', port: 81 });
  scene.driver.close();
  // as after an upgrade: what is pinned is not what the object has
  for (const name of ['connect4', 'sock_ops', 'lookup']) unlinkSync(`${scene.pinDir}/progs/${name}`);
  scene.driver = scene.start();
  const after: Record<string, Link> = { ...links(), lookup: linkOf(lookup) };
  const load = await app.call('stop', { name: 'load' });
  expect(load.failed).toEqual({});
  for (const [name, link] of Object.entries(before)) {
    expect(after[name]?.id, name).toBe(link.id);
    expect(after[name]?.program === link.program, name).toBe(!['connect4', 'sock_ops', 'lookup'].includes(name));
  }
});

const LATER = ['kubelets', 'node_sources', 'trials'];

test('pins of a version that had fewer maps: adopted, what is new is added, and pods go on', async () => {
  const pod = await scene.node.pod('a', 2);
  const [tunnel, app] = await Promise.all([scene.tunnel(), scene.app(pod)]);
  await scene.enrol(pod, tunnel);
  scene.driver.close();
  for (const name of LATER) unlinkSync(`${scene.pinDir}/maps/${name}`);
  scene.driver = scene.start();
  expect(tree(`${scene.pinDir}/maps`)).toEqual(expect.arrayContaining(LATER));
  await scene.prepare(pod);
  expect((await app.call('connect', { host: '10.77.200.1', port: 81 })).greeting?.by).toBe('tunnel-a:15001');
});

test('pins of a version that had more maps: adopted, so that an upgrade can be taken back', async () => {
  const pod = await scene.node.pod('a', 2);
  const [tunnel, app] = await Promise.all([scene.tunnel(), scene.app(pod)]);
  await scene.enrol(pod, tunnel);
  const maps = scene.maps();
  native.bpfPin(maps.trials.fd, `${scene.pinDir}/maps/of_tomorrow`);
  maps.close();
  scene.restart();
  expect(tree(`${scene.pinDir}/maps`)).toContain('of_tomorrow');
  expect((await app.call('connect', { host: '10.77.200.1', port: 81 })).greeting?.by).toBe('tunnel-a:15001');
});

test('uninstalling what a version with fewer maps left', async () => {
  const pod = await scene.node.pod('a', 2);
  const before = settingsOf(pod.netnsName);
  await scene.prepare(pod);
  using netns = Netns.open(pod.netns);
  const path = 'net/netfilter/nf_conntrack_tcp_loose';
  netns.run({ op: 'sysctl', path, value: '0' }); // as it is where rules of netfilter have been
  shelter(netns); // as an agent does that keeps istio-cni's rules
  scene.driver.close();
  for (const name of LATER) unlinkSync(`${scene.pinDir}/maps/${name}`);
  const options = { pinDir: scene.pinDir, instance: INSTANCE, procRoot: '/proc', deadlineMs: 0, force: false };
  const done = await uninstallEbpf({ ...options, log: createLogger('test', 'silent') });
  expect(done).toEqual({ pods: ['test/a'], pins: true });
  expect([settingsOf(pod.netnsName), netns.run({ op: 'sysctl-read', path }).trim()]).toEqual([before, '1']);
  expect(existsSync(scene.pinDir)).toBe(false);
});

test('uninstalling: a netns that cannot be looked for is named, and the others leave all the same', async () => {
  const [a, b] = [await scene.node.pod('a', 2), await scene.node.pod('b', 3)];
  const before = settingsOf(b.netnsName);
  const { cookie } = await scene.prepare(a);
  await scene.prepare(b);
  const maps = scene.maps();
  const loop = `${scene.node.dir}/loop`;
  symlinkSync(loop, loop);
  maps.identity.set(cookie, { ...maps.identity.get(cookie)!, netns: loop });
  maps.close();
  scene.driver.close();
  const options = { pinDir: scene.pinDir, instance: INSTANCE, procRoot: '/proc', deadlineMs: 0, log: createLogger('test', 'silent') };
  await expect(uninstallEbpf({ ...options, force: false })).rejects.toThrow(/netns of test\/a: .*ELOOP/);
  expect(settingsOf(b.netnsName)).toBe(before);
  await expect(uninstallEbpf({ ...options, force: true })).rejects.toThrow(/netns of test\/a/);
  expect(existsSync(scene.pinDir)).toBe(false);
});

test('other constants: every program is swapped, though its tag is the same', () => {
  const before = links();
  scene.restart({ nodeNetns: '/proc/self/ns/net' });
  const after = links();
  for (const name of CGROUP_LINKS) {
    expect(after[name]?.id, name).toBe(before[name]?.id);
    expect(after[name]?.program, name).not.toBe(before[name]?.program);
  }
});

test('a link whose cgroup is gone is made anew', () => {
  const cgroupRoot = scene.node.cgroupPath('inner');
  scene.restart({ cgroupRoot });
  const before = links();
  scene.driver.close();
  rmdirSync(cgroupRoot);
  mkdirSync(cgroupRoot);
  scene.driver = scene.start({ cgroupRoot });
  const after = links();
  for (const name of CGROUP_LINKS) expect(after[name]?.id, name).not.toBe(before[name]?.id);
});

test('pins of another instance are refused and untouched; a second agent on one directory is refused', () => {
  const before = { tree: tree(scene.node.bpffs), links: links() };
  expect(() => scene.start()).toThrow(expect.objectContaining({ code: 'PIN_BUSY' }));
  scene.driver.close();
  expect(() => scene.start({ instance: 0xbadn })).toThrow(expect.objectContaining({ code: 'PIN_FOREIGN' }));
  expect({ tree: tree(scene.node.bpffs), links: links() }).toEqual(before);
  scene.driver = scene.start();
});

test('a first installation that fails leaves nothing', () => {
  const pinDir = `${scene.node.bpffs}/failing`;
  expect(() => scene.start({ pinDir, object: new Uint8Array(10) })).toThrow(expect.objectContaining({ code: 'VERIFIER' }));
  expect(tree(scene.node.bpffs).filter((name) => name.startsWith('failing/'))).toEqual([]);
});

test('two agents side by side do not see each other', async () => {
  const [a, b] = [await scene.node.pod('a', 2), await scene.node.pod('b', 3)];
  const log = createLogger('test', 'silent');
  const second = scene.start({
    pinDir: `${scene.node.bpffs}/second`,
    cgroupRoot: scene.node.cgroupPath('second'),
    instance: INSTANCE + 1n,
    log,
  });
  const tunnel = await scene.tunnel();
  const cookie = await scene.enrol(a, tunnel);
  const theirs = await withFd(b.netns, (fd) => second.prepare(scene.target(b, fd)));
  expect(scene.driver.snapshot().map((p) => p.name)).toEqual(['a']);
  expect(second.snapshot().map((p) => p.name)).toEqual(['b']);
  const app = await scene.app(a);
  expect((await app.call('connect', { host: '10.77.200.1', port: 81 })).greeting?.by).toBe('tunnel-a:15001');
  await withFd(b.netns, (fd) => second.remove(theirs.cookie, fd, 0));
  second.close();
  expect(scene.driver.snapshot()).toMatchObject([{ cookie, state: 'active' }]);
});

test('what earlier runs left is swept: dead netns, unfinished joinings, entries of nobody, half-made pins', async () => {
  const [dead, unfinished, alive] = [await scene.node.pod('dead', 2), await scene.node.pod('half', 3), await scene.node.pod('alive', 4)];
  const plain = settingsOf(unfinished.netnsName);
  const a = await scene.prepare(dead);
  const b = await scene.prepare(unfinished);
  const c = await scene.prepare(alive);
  const maps = scene.maps();
  try {
    maps.pods.delete(b.cookie); // killed before the last step
    maps.own.set({ cookie: 0xdead0000n, addr: '10.1.2.3' }, 1);
    maps.generation.set({ cookie: 0xdead0000n, port: 15001 }, 1);
    mkdirSync(`${scene.pinDir}/tmp-${INSTANCE.toString(16)}-1/maps`, { recursive: true });
    scene.driver.close();
    await scene.node.deletePod(dead);
    const link = `${scene.pinDir}/pods/${a.cookie.toString(16)}/lookup`;
    await eventually('the kernel has freed the netns', () => linkOf(link).netnsIno === 0);
    scene.driver = scene.start();
    expect(scene.driver.snapshot().map((p) => p.cookie)).toEqual([c.cookie]);
    expect(
      maps.own
        .keys()
        .map((k) => k.cookie)
        .filter((k) => k !== c.cookie),
    ).toEqual([]);
    expect(maps.generation.keys()).toEqual([]);
    expect(tree(`${scene.pinDir}/pods`)).toEqual([c.cookie.toString(16), `${c.cookie.toString(16)}/lookup`]);
    expect(tree(scene.pinDir).filter((name) => name.startsWith('tmp'))).toEqual([]);
    expect(settingsOf(unfinished.netnsName)).toBe(plain);
  } finally {
    maps.close();
  }
});

test('a restart in the middle of leaving goes on where it was', async () => {
  const pod = await scene.node.pod('a', 2);
  const plain = settingsOf(pod.netnsName);
  const tunnel = await scene.tunnel();
  const cookie = await scene.enrol(pod, tunnel);
  scene.driver.drain(cookie);
  const link = native.bpfGet(`${scene.pinDir}/pods/${cookie.toString(16)}/lookup`);
  native.bpfLinkDetach(link);
  native.closeFd(link);
  scene.restart();
  expect(scene.driver.snapshot()).toMatchObject([{ cookie, state: 'draining' }]);
  await scene.remove(pod, cookie);
  expect(scene.driver.snapshot()).toEqual([]);
  expect(settingsOf(pod.netnsName)).toBe(plain);
});
