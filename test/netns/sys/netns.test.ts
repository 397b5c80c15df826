/** Operations inside a namespace: what they change there, that doing them twice is doing them once, and that nothing changes outside. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { native, type NetnsOp } from '../../../src/sys/native.ts';
import { Netns } from '../../../src/sys/netns.ts';
import { errorOf, openFds, Place, startThreads } from './place.ts';

const FWMARK_ACCEPT = 'net/ipv4/tcp_fwmark_accept';

function enrolment(add: boolean): NetnsOp[] {
  const source = { 4: '10.9.0.1', 6: 'fd09::1' };
  return ([4, 6] as const).flatMap((family) => [
    { op: 'rule', add, family, pref: 32764, mark: 0x111, mask: 0xfff, action: 'lookup', table: 100 },
    { op: 'rule', add, family, pref: 32765, mark: 0x111, mask: 0xfff, action: 'prohibit', table: 0 },
    { op: 'route', add, family, table: 100, device: 'lo', src: source[family] },
  ]);
}

describe('netns', () => {
  let place: Place;
  let fds: number;
  beforeAll(() => {
    startThreads();
    fds = openFds();
    place = Place.create('ops');
  });
  afterAll(() => {
    place.close();
    expect(openFds()).toBe(fds);
  });

  const rulesAndRoutes = (): string =>
    place.shell('ip rule; ip -6 rule; ip route show table 100 2>/dev/null; ip -6 route show table 100 2>/dev/null; true');

  it('has a cookie of its own', () => {
    using again = Netns.open(place.path);
    expect(again.cookie).toBe(place.netns.cookie);
    expect(again.cookie).not.toBe(native.netnsCookie(-1));
    expect(again.identity).toBe(place.netns.identity);
  });

  it('lists addresses of both families with their devices', () => {
    const addresses = place.netns.run({ op: 'addresses' });
    expect(addresses).toContainEqual({
      address: '10.9.0.1',
      family: 4,
      ifindex: expect.any(Number) as number,
      device: 'eth0',
      scope: 0,
      prefix: 24,
    });
    expect(addresses).toContainEqual(expect.objectContaining({ address: 'fd09::1', family: 6, device: 'eth0', prefix: 64 }));
    expect(addresses).toContainEqual(expect.objectContaining({ address: '::1', device: 'lo', scope: 254 }));
  });

  it('adds rules and routes once, however often', () => {
    const before = rulesAndRoutes();
    const host = execFileSync('ip', ['rule'], { encoding: 'utf8' });
    for (let i = 0; i < 3; i++) place.netns.runAll(enrolment(true));
    const text = rulesAndRoutes();
    expect(text.match(/fwmark 0x111\/0xfff lookup 100/g)).toHaveLength(2);
    expect(text.match(/fwmark 0x111\/0xfff prohibit/g)).toHaveLength(2);
    expect(text).toMatch(/local default dev lo .*src 10\.9\.0\.1/);
    expect(text).toMatch(/local default dev lo .*src fd09::1/);
    expect(execFileSync('ip', ['rule'], { encoding: 'utf8' })).toBe(host);
    for (let i = 0; i < 2; i++) place.netns.runAll(enrolment(false));
    expect(rulesAndRoutes()).toBe(before);
  });

  it('replaces the source of a route', () => {
    place.netns.runAll(enrolment(true));
    place.netns.run({ op: 'route', add: true, family: 4, table: 100, device: 'lo', src: '127.0.0.1' });
    expect(place.netns.run({ op: 'routes', family: 4, table: 100 })).toEqual([
      { type: 'local', destination: 'default', device: 'lo', src: '127.0.0.1' },
    ]);
    place.netns.runAll(enrolment(false));
    expect(place.netns.run({ op: 'routes', family: 4, table: 100 })).toEqual([]);
  });

  it('deletes duplicates of a rule too', () => {
    place.shell(
      'ip rule add pref 32764 fwmark 0x111/0xfff lookup 100 protocol 4; ip rule add pref 32764 fwmark 0x111/0xfff lookup 100 protocol 5',
    );
    expect(place.netns.run({ op: 'rules', family: 4 }).filter((rule) => rule.table === 100)).toHaveLength(2);
    place.netns.run({ op: 'rule', add: false, family: 4, pref: 32764, mark: 0x111, mask: 0xfff, action: 'lookup', table: 100 });
    expect(place.netns.run({ op: 'rules', family: 4 }).filter((rule) => rule.table === 100)).toEqual([]);
  });

  it('writes sysctls of the namespace and never of the host', () => {
    const host = readFileSync(`/proc/sys/${FWMARK_ACCEPT}`, 'utf8');
    for (const path of [FWMARK_ACCEPT, FWMARK_ACCEPT.replaceAll('/', '.'), `/proc/sys/${FWMARK_ACCEPT}`]) {
      for (const value of ['1', '0', '1']) {
        place.netns.run({ op: 'sysctl', path, value });
        expect(place.shell(`cat /proc/sys/${FWMARK_ACCEPT}`)).toBe(value);
        expect(place.netns.run({ op: 'sysctl-read', path })).toBe(value);
        expect(readFileSync(`/proc/sys/${FWMARK_ACCEPT}`, 'utf8')).toBe(host);
      }
    }
  });

  it.each(['kernel/hostname', 'kernel.hostname', '/proc/sys/vm/swappiness', 'net/../kernel/hostname', '../../etc/passwd', ''])(
    'refuses the sysctl %j',
    (path) => {
      expect(() => place.netns.run({ op: 'sysctl', path, value: 'x' })).toThrow(/EINVAL/);
    },
  );

  it('stops at the first refusal, or goes on when asked', () => {
    const ops: NetnsOp[] = [
      { op: 'route', add: true, family: 4, table: 100, device: 'absent0' },
      { op: 'sysctl-read', path: FWMARK_ACCEPT },
    ];
    const refused = {
      ok: false,
      code: 'ENODEV',
      errno: 19,
      syscall: 'if_nametoindex',
      message: expect.stringContaining('absent0') as string,
    };
    expect(native.netnsRun(place.netns.fd, ops)).toEqual([refused]);
    expect(native.netnsRun(place.netns.fd, ops, true)).toEqual([refused, { ok: true, value: '1' }]);
    expect(errorOf(() => place.netns.runAll(ops))).toMatchObject({
      code: 'SYSTEM',
      errno: 19,
      syscall: 'if_nametoindex',
      systemCode: 'ENODEV',
    });
  });

  it('says what is no namespace', () => {
    expect(errorOf(() => native.netnsRun(0, []))).toMatchObject({ code: 'EINVAL', syscall: 'setns' });
    expect(errorOf(() => native.netnsRun(9999, []))).toMatchObject({ code: 'EBADF', syscall: 'setns' });
    expect(errorOf(() => Netns.open('/var/run/netns/cvt-addon-absent'))).toMatchObject({ code: 'NETNS_GONE' });
    const directory = mkdtempSync(join(tmpdir(), 'cvt-addon-'));
    writeFileSync(join(directory, 'file'), '');
    expect(errorOf(() => Netns.open(join(directory, 'file')))).toMatchObject({ code: 'NETNS_GONE' });
    rmSync(directory, { recursive: true });
  });

  it('is entered and left ten thousand times without a trace', () => {
    const before = openFds();
    for (let i = 0; i < 10_000; i++) native.netnsRun(place.netns.fd, []);
    expect(openFds()).toBe(before);
  });

  it('costs little', () => {
    const median = (action: () => void): number => {
      const times = Array.from({ length: 101 }, () => {
        const start = process.hrtime.bigint();
        action();
        return Number(process.hrtime.bigint() - start) / 1e3;
      });
      return times.toSorted((a, b) => a - b)[50]!;
    };
    const ops: NetnsOp[] = [
      { op: 'addresses' },
      ...enrolment(true),
      ...['net/ipv4/tcp_fwmark_accept', 'net/ipv4/fwmark_reflect', 'net/ipv6/fwmark_reflect'].map(
        (path) => ({ op: 'sysctl', path, value: '1' }) as const,
      ),
    ];
    const enrol = median(() => {
      place.netns.runAll(enrolment(false));
      place.netns.runAll(ops);
    });
    const socket = median(() =>
      native.closeFd(
        native.netnsSocket(place.netns.fd, {
          family: 6,
          type: 'tcp',
          transparent: true,
          bind: { address: '::', port: 0 },
          listen: { backlog: 16 },
        }),
      ),
    );
    console.log(`netnsRun off and on, 6 + 10 operations: ${enrol.toFixed(0)} us; netnsSocket: ${socket.toFixed(0)} us`);
  });
});
