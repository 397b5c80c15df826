/**
 * Processes in an enrolled pod that pass for its tunnel: the mark is theirs to set (CAP_NET_RAW, which runtimes give, is enough), and
 * proves nothing. Each attack is captured or refused, and counted.
 */
import { rmdirSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { native } from '../../../src/sys/native.ts';
import { familyOf, forms, type Form } from '../../support/bpf-datapath.ts';
import { codeOf, type End, type SocketProcess, type Type } from '../../support/bpf-sockets.ts';
import { settingsOf } from '../../support/netns.ts';
import { eventually } from '../redirect/scene.ts';
import { AttackScene, PORT, PRIVILEGES, type Privilege } from './attacker.ts';

const TCP = 6;
const TCP_FASTOPEN_CONNECT = 30;
const TCP_FASTOPEN_NO_COOKIE = 34;
const MARK = 0x539;

let a: AttackScene;
const attackers = new Map<Privilege, SocketProcess>();
beforeAll(async () => {
  a = await AttackScene.create();
  for (const [name, through] of Object.entries(PRIVILEGES)) attackers.set(name as Privilege, a.start('app', through));
});
afterAll(() => a.close());

const outside = (form: Form): End => ({
  address: { v4: a.outsidePod.ip4, v6: a.outsidePod.ip6, mapped: `::ffff:${a.outsidePod.ip4}` }[form],
  port: PORT,
});

describe.each(['root of a container', 'root of a container with NET_ADMIN'] as const)('%s', (privilege) => {
  const app = (): SocketProcess => attackers.get(privilege)!;

  async function marked(form: Form, type: Type = 'tcp'): Promise<number> {
    const fd = await app().socket(familyOf(form), type);
    await app().setMark(fd, MARK);
    return fd;
  }

  test.each(forms)('connects with the mark by %s: captured, counted as a false tunnel', async (form) => {
    const fd = await marked(form);
    const reasons = await a.reasons(() => app().connect(fd, outside(form)));
    expect(reasons).toEqual({ MISC_FALSE_TUNNEL: 1, OUT_REDIRECT_TUNNEL: 1, OUT_REDIRECT_ACCEPTED: 1 });
    expect(await a.reached()).toBe('tunnel');
    await app().close(fd);
  });

  test.each(['mptcp', 'tcp'] as const)('by MPTCP or fast open: %s', async (type) => {
    const fd = await marked('v4', type);
    if (type === 'mptcp') {
      await app().connect(fd, outside('v4'));
    } else {
      await app().call('set', fd, TCP, TCP_FASTOPEN_NO_COOKIE, 1);
      await app().call('fastopen', fd, a.outsidePod.ip4, PORT, 'x');
    }
    expect(await a.reached()).toBe('tunnel');
    await app().close(fd);
  });

  test.for(['plain', 'worker', 'poller'])('by io_uring (%s), whose threads are the process’ own: captured', async (by, context) => {
    const fd = await marked('v4');
    let code: string | undefined;
    const reasons = await a.reasons(async () => (code = await codeOf(app().call('uring', fd, a.outsidePod.ip4, PORT, by, 5000))));
    if (code === 'ENOSYS' || code === 'EPERM') return context.skip('needs io-uring: the kernel, or who runs this, refuses it');
    expect(code).toBeUndefined();
    expect(reasons).toEqual({ MISC_FALSE_TUNNEL: 1, OUT_REDIRECT_TUNNEL: 1, OUT_REDIRECT_ACCEPTED: 1 });
    expect(await a.reached()).toBe('tunnel');
    await app().close(fd);
  });

  test('has an accomplice in a pod outside the mesh connect its socket (SCM_RIGHTS): the socket stays in its namespace, captured', async () => {
    const path = join(a.scene.node.dir, `door-${privilege.length}`);
    const [door = ''] = await a.outside.call('door', path);
    const fd = await marked('v4');
    await app().call('give', fd, path);
    const [taken = ''] = await a.outside.call('take', door, 2000);
    const reasons = await a.reasons(() => a.outside.connect(Number(taken), outside('v4')));
    expect(reasons).toEqual({ MISC_FALSE_TUNNEL: 1, OUT_REDIRECT_TUNNEL: 1, OUT_REDIRECT_ACCEPTED: 1 });
    expect(await a.reached()).toBe('tunnel');
    await a.outside.close(Number(taken), Number(door));
    await app().close(fd);
  });

  test('sets the mark after connect, before the first SYN or between two: captured, marked again', async () => {
    const late = await app().socket(4);
    await app().call('set', late, TCP, TCP_FASTOPEN_NO_COOKIE, 1);
    await app().call('set', late, TCP, TCP_FASTOPEN_CONNECT, 1);
    await app().call('start', late, a.outsidePod.ip4, PORT);
    await app().setMark(late, MARK);
    expect(await a.reasons(() => app().send(late, 'x'))).toMatchObject({ MISC_REMARKED: 1, OUT_REDIRECT_ACCEPTED: 1 });
    expect(await a.reached()).toBe('tunnel');
    await app().close(late);
  });

  test('takes a marked socket from accept and connects that', async () => {
    const listener = await marked('v4');
    await app().bind(listener, { address: '0.0.0.0', port: 7000 });
    await app().call('listen', listener);
    const client = await app().socket(4);
    await app().connect(client, { address: a.pod.ip4, port: 7000 });
    const { fd } = await app().accept(listener);
    expect(await app().mark(fd)).toBe(MARK);
    await app().close(client);
    await app().call('disconnect', fd);
    expect(await a.reasons(() => app().connect(fd, outside('v4')))).toMatchObject({ MISC_FALSE_TUNNEL: 1, OUT_REDIRECT_TUNNEL: 1 });
    expect(await a.reached()).toBe('tunnel');
    await app().close(fd, listener);
  });

  test.each(['v4', 'v6'] as const)('plays a client from outside (a foreign source, IP_TRANSPARENT) by %s: refused', async (form) => {
    const fd = await marked(form);
    await app().transparent(fd, familyOf(form));
    await app().bind(fd, { address: form === 'v4' ? '10.77.0.99' : 'fd77::99', port: 0 });
    let code: string | undefined;
    const reasons = await a.reasons(async () => (code = await codeOf(app().connect(fd, outside(form)))));
    expect(reasons).toEqual({ MISC_FALSE_TUNNEL: 1, OUT_DROP_SOURCE: 1 });
    expect(code).toBe('EINVAL');
    await app().close(fd);
  });

  test('asks a resolver with the mark: captured', async () => {
    const fd = await marked('v4', 'udp');
    const reasons = await a.reasons(() => app().sendTo(fd, { address: '10.0.0.53', port: 53 }, 'question'));
    expect(reasons).toEqual({ MISC_FALSE_TUNNEL: 1, OUT_REDIRECT_DNS_UDP: 1 });
    await app().close(fd);
  });

  test("uses the mark of what is captured: that is captured, and reaches nobody's listener but the tunnel's", async () => {
    const listener = await app().listen(PORT);
    const fd = await app().socket(4);
    await app().setMark(fd, 0x111);
    await app().connect(fd, outside('v4'));
    expect(await a.reached()).toBe('tunnel');
    expect(await codeOf(app().accept(listener, 0))).toBe('ETIMEDOUT');
    await app().close(fd, listener);
  });

  test.each([15001, 15006, 15008, 15053])('listens on %i beside the tunnel (SO_REUSEPORT): refused, and gets nothing', async (port) => {
    let fd = 0;
    expect(await a.reasons(async () => (fd = await app().tunnelListen(port)))).toMatchObject({ REG_REFUSED: 1 });
    expect(await a.warnings()).toContainEqual(expect.stringContaining(`a listener on port ${port} is not the tunnel's`));
    const listener = port === 15006 ? 'inbound' : port === 15008 ? 'hbone' : 'outbound';
    for (let i = 0; i < 8; i++) {
      const [who, to] =
        listener === 'outbound' ? [app(), outside('v4')] : [a.outside, { address: a.pod.ip4, port: listener === 'hbone' ? 15008 : 80 }];
      const client = await who.socket(4);
      await who.connect(client, to);
      expect(await a.reached(listener)).toBe('tunnel');
      await who.close(client);
    }
    expect(await codeOf(app().accept(fd, 0))).toBe('ETIMEDOUT');
    await app().close(fd);
  });
});

test('without privileges the mark, a foreign source and raw sockets are refused by the kernel', async () => {
  for (const privilege of ['root of a user namespace of its own', 'nobody in particular'] as const) {
    const app = attackers.get(privilege)!;
    const fd = await app.socket(4);
    const codes = [await codeOf(app.setMark(fd, MARK)), await codeOf(app.transparent(fd, 4)), await codeOf(app.socket(4, 'raw'))];
    expect(codes, privilege).toEqual(['EPERM', 'EPERM', 'EPERM']);
    await app.close(fd);
  }
});

test('anybody who binds a captured socket to a device before its SYN leaves, or leaves again: it stays in the pod', async () => {
  const app = attackers.get('nobody in particular')!;
  const late = await app.socket(4);
  await app.call('set', late, TCP, TCP_FASTOPEN_NO_COOKIE, 1);
  await app.call('set', late, TCP, TCP_FASTOPEN_CONNECT, 1);
  await app.call('start', late, a.outsidePod.ip4, PORT);
  await app.call('device', late, 'eth0');
  await app.send(late, 'x');
  expect(await a.reached()).toBe('tunnel');
  const again = await app.socket(4);
  await app.call('md5', again, a.outsidePod.ip4, 8); // the tunnel has no such key: its kernel drops the SYN
  await app.call('start', again, a.outsidePod.ip4, PORT);
  await app.call('device', again, 'eth0');
  await app.call('md5', again, a.outsidePod.ip4, 0);
  await app.call('finish', again, 5000);
  expect(await a.reached()).toBe('tunnel');
  const { node } = a.scene;
  await node.ipIn(a.pod.netnsName, 'link add spare type veth peer name other', 'addr add 10.79.0.1/24 dev spare'); // down: it has to wait
  await a.reconcile();
  await node.ipIn(a.pod.netnsName, 'link set other up', 'link set spare up');
  await eventually('the device has its route', () => settingsOf(a.pod.netnsName).includes('local default dev spare'));
  await node.ipIn(a.pod.netnsName, 'link del spare');
  const six = await app.socket(6);
  await app.call('set', six, TCP, TCP_FASTOPEN_NO_COOKIE, 1);
  await app.call('set', six, TCP, TCP_FASTOPEN_CONNECT, 1);
  await app.call('start', six, a.outsidePod.ip6, PORT);
  await app.call('device', six, 'eth0');
  expect(await codeOf(app.send(six, 'x'))).toBe('ECONNABORTED');
  expect(await a.outsideWasReached()).toBe(false);
  await app.close(late, again, six);
});

test("the tunnel's cgroup is told by an id that is never used again: one made anew under its name proves nothing", async () => {
  const { node, driver } = a.scene;
  const path = node.cgroupPath('former');
  const id = native.cgroupId(path);
  driver.trustTunnel(id);
  rmdirSync(path);
  node.remakeCgroup('former');
  expect(native.cgroupId(path)).not.toBe(id);
  const app = a.start('former');
  const fd = await app.socket(4);
  await app.setMark(fd, MARK);
  expect(await a.reasons(() => app.connect(fd, outside('v4')))).toMatchObject({ MISC_FALSE_TUNNEL: 1, OUT_REDIRECT_TUNNEL: 1 });
  expect(await a.reached()).toBe('tunnel');
  await app.close(fd);
  driver.distrustTunnel(id);
});

describe('with NET_ADMIN in its network namespace', () => {
  test('takes the address of another pod: probes of that pod stay exempt, it is told', async () => {
    const victim = await a.scene.node.pod('victim', 4);
    const { cookie } = await a.scene.prepare(victim);
    await a.scene.node.ipIn(a.pod.netnsName, `addr add ${victim.ip4}/32 dev lo`, `addr add ${victim.ip4}/32 dev eth0`);
    await a.reconcile();
    expect(a.maps.podByAddr.get(victim.ip4)).toBe(cookie);
    expect(await a.warnings()).toContainEqual(expect.stringContaining(`has address ${victim.ip4} of pod test/victim`));
    await a.scene.node.ipIn(a.pod.netnsName, `addr del ${victim.ip4}/32 dev lo`, `addr del ${victim.ip4}/32 dev eth0`);
    await a.reconcile();
    expect(a.maps.podByAddr.get(victim.ip4)).toBe(cookie);
    expect(await a.warnings()).toEqual([]);
    await a.scene.remove(victim, cookie);
  });

  test('gives itself addresses without end: the maps have room for others', async () => {
    const addresses = Array.from({ length: 400 }, (_, i) => `10.78.${i >> 8}.${i & 255}/32 dev lo`);
    await a.scene.node.ipIn(a.pod.netnsName, ...addresses.map((each) => `addr add ${each}`));
    await a.reconcile();
    expect(a.maps.own.keys().filter((key) => key.cookie === a.cookie)).toHaveLength(256);
    expect(a.maps.own.get({ cookie: a.cookie, addr: a.pod.ip4 })).toBe(1);
    expect(await a.warnings()).toContainEqual(expect.stringContaining('more than 256 addresses'));
    await a.scene.node.ipIn(a.pod.netnsName, ...addresses.map((each) => `addr del ${each}`));
    await a.reconcile();
  });

  test("puts rules and routes before the mesh's: told, as nothing of the mesh's is missing", async () => {
    const { node } = a.scene;
    await node.ipIn(a.pod.netnsName, 'rule add pref 100 fwmark 0x111 lookup main', 'route add 10.0.0.0/8 via 10.77.0.1 table 100');
    const warnings = await a.warnings();
    expect(warnings).toEqual([
      expect.stringMatching(/^ip rule 100 of IPv4 comes before the mesh's/),
      expect.stringMatching(/^route 10\.0\.0\.0\/8 of IPv4 in table 100 is not the mesh's/),
    ]);
    await node.ipIn(a.pod.netnsName, 'rule del pref 100', 'route del 10.0.0.0/8 table 100');
    expect(await a.warnings()).toEqual([]);
  });
});

test("on 15008 beside the tunnel while the pod leaves: the connections of peers that still send HBONE are the tunnel's", async () => {
  const app = attackers.get('root of a container')!;
  const beside = [await app.tunnelListen(15008), await app.tunnelListen(15008, { address: a.pod.ip4 })];
  a.scene.driver.drain(a.cookie);
  const reasons = await a.reasons(async () => {
    for (let i = 0; i < 8; i++) {
      const fd = await a.outside.socket(4);
      await a.outside.connect(fd, { address: a.pod.ip4, port: 15008 });
      expect(await a.reached('hbone')).toBe('tunnel');
      await a.outside.close(fd);
    }
  });
  expect(reasons).toEqual({ IN_PASS_HBONE: 8 });
  for (const fd of beside) expect(await codeOf(app.accept(fd, 0))).toBe('ETIMEDOUT');
  await app.close(...beside);
  a.scene.driver.activate(a.cookie);
});

test("after the tunnel's death its ports prove nothing: refused in and out, never handed over in plaintext", async () => {
  const app = attackers.get('root of a container with NET_ADMIN')!;
  await a.tunnel.kill();
  const squats: number[] = [];
  const registered = await a.reasons(async () => {
    for (const port of [15001, 15006, 15008, 15053]) squats.push(await app.tunnelListen(port));
  });
  expect(registered).toMatchObject({ REG_REFUSED: 4 });
  const codes: (string | undefined)[] = [];
  const refused = await a.reasons(async () => {
    for (const [who, to] of [
      [app, outside('v4')],
      [app, outside('v6')],
      [a.outside, { address: a.pod.ip4, port: 80 }],
      [a.outside, { address: a.pod.ip4, port: 15008 }],
    ] as const) {
      const fd = await who.socket(to.address.includes(':') ? 6 : 4);
      codes.push(await codeOf(who.connect(fd, to)));
      await who.close(fd);
    }
  });
  expect(codes).toEqual(Array.from({ length: 4 }, () => 'ECONNREFUSED'));
  expect(refused).toEqual({ OUT_DROP_NO_TUNNEL: 2, IN_DROP_NO_TUNNEL: 2 });
  for (const fd of squats) expect(await codeOf(app.accept(fd, 0))).toBe('ETIMEDOUT');
  await app.close(...squats);
  const plain = await app.listen(15001); // without the mark and SO_REUSEPORT: the next tunnel cannot listen there, and that is told
  expect(await a.warnings()).toContainEqual(expect.stringContaining("a listener on port 15001 is not the tunnel's"));
  await app.close(plain);
  await a.restartTunnel();
  const fd = await app.socket(4);
  await app.connect(fd, outside('v4'));
  expect(await a.reached()).toBe('tunnel');
  await app.close(fd);
});
