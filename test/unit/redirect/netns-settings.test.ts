import { describe, expect, test } from 'vitest';
import { isOfPod, missingDeviceRoutes, missingSettings, type NetnsView } from '../../../src/redirect/ebpf/netns-settings.ts';
import type { Address } from '../../../src/sys/native.ts';

const address = (text: string, device = 'eth0', scope = 0): Address => ({
  address: text,
  family: text.includes(':') ? 6 : 4,
  ifindex: 2,
  device,
  scope,
  prefix: 24,
});
const lo = [address('127.0.0.1', 'lo', 254), address('::1', 'lo', 254)];
const fresh = (change: Partial<NetnsView> = {}): NetnsView => ({
  addresses: [...lo, address('10.0.0.7'), address('fe80::1', 'eth0', 253), address('fd00::7')],
  sysctls: new Map([
    ['net/ipv4/tcp_fwmark_accept', '0'],
    ['net/ipv4/fwmark_reflect', '0'],
    ['net/ipv6/fwmark_reflect', '0'],
    ['net/ipv6/conf/lo/disable_ipv6', '0'],
  ]),
  ipv6: true,
  present: { rules: [], routes: [], devices: [] },
  ...change,
});
const complete: NetnsView['present'] = {
  rules: [
    { family: 4, action: 'lookup' },
    { family: 4, action: 'prohibit' },
    { family: 6, action: 'lookup' },
    { family: 6, action: 'prohibit' },
  ],
  routes: [4, 6],
  devices: ['eth0'],
};

describe('settings of an enrolled netns', () => {
  test('a fresh one: prohibit before lookup before route, both families, three sysctls', () => {
    expect(
      missingSettings(fresh()).map((op) => [
        op.op,
        'family' in op ? op.family : '',
        'action' in op ? op.action : 'src' in op ? op.src : 'path' in op ? op.path : '',
      ]),
    ).toEqual([
      ['rule', 4, 'prohibit'],
      ['rule', 4, 'lookup'],
      ['route', 4, '10.0.0.7'],
      ['rule', 6, 'prohibit'],
      ['rule', 6, 'lookup'],
      ['route', 6, 'fd00::7'],
      ['sysctl', '', 'net/ipv4/tcp_fwmark_accept'],
      ['sysctl', '', 'net/ipv4/fwmark_reflect'],
      ['sysctl', '', 'net/ipv6/fwmark_reflect'],
    ]);
  });

  test('mark, mask, table and preferences are the contract', () => {
    expect(missingSettings(fresh())).toEqual(
      expect.arrayContaining([
        { op: 'rule', add: true, family: 4, action: 'lookup', pref: 32764, mark: 0x111, mask: 0xfff, table: 100 },
        { op: 'rule', add: true, family: 6, action: 'prohibit', pref: 32765, mark: 0x111, mask: 0xfff, table: 0 },
        { op: 'route', add: true, family: 4, table: 100, device: 'lo', src: '10.0.0.7' },
      ]),
    );
  });

  test('a complete one needs nothing: doing it twice is doing it once', () => {
    const set = new Map([...fresh().sysctls].map(([k]) => [k, k.includes('disable') ? '0' : '1']));
    expect(missingSettings(fresh({ present: complete, sysctls: set }))).toEqual([]);
  });

  test('without addresses there are rules, so that marked packets are refused, and no route', () => {
    const ops = missingSettings(fresh({ addresses: lo }));
    expect(ops.filter((op) => op.op === 'rule')).toHaveLength(4);
    expect(ops.filter((op) => op.op === 'route')).toHaveLength(0);
  });

  test('a route for each device but lo, however many addresses it has, and for one that comes later; IPv4 only', () => {
    const of = (device: string, metric: number): object => ({
      op: 'route',
      add: true,
      family: 4,
      table: 100,
      device,
      src: '10.0.0.7',
      metric,
    });
    expect(missingDeviceRoutes(fresh())).toEqual([of('eth0', 2)]);
    const later = [...fresh().addresses, { ...address('10.1.0.7', 'net1'), ifindex: 3 }, { ...address('10.1.0.8', 'net1'), ifindex: 3 }];
    expect(missingDeviceRoutes(fresh({ addresses: later, present: complete }))).toEqual([of('net1', 3)]);
    expect(missingDeviceRoutes(fresh({ addresses: [...lo, address('fd00::7')] }))).toEqual([]);
  });

  test('IPv6 switched off on lo: rules but no route; a kernel without IPv6: nothing of it', () => {
    const off = new Map(fresh().sysctls).set('net/ipv6/conf/lo/disable_ipv6', '1');
    expect(
      missingSettings(fresh({ sysctls: off }))
        .filter((op) => 'family' in op && op.family === 6)
        .map((op) => op.op),
    ).toEqual(['rule', 'rule']);
    const none = fresh({
      ipv6: false,
      sysctls: new Map([
        ['net/ipv4/tcp_fwmark_accept', '0'],
        ['net/ipv4/fwmark_reflect', '0'],
      ]),
    });
    expect(
      missingSettings(none).filter((op) => ('family' in op && op.family === 6) || ('path' in op && op.path.startsWith('net/ipv6'))),
    ).toEqual([]);
  });

  test('the pod is reached by global addresses off lo only', () => {
    const all = [
      ...lo,
      address('10.0.0.7'),
      address('fe80::1', 'eth0', 253),
      address('10.9.9.9', 'lo'),
      address('169.254.1.1', 'eth0', 253),
    ];
    expect(all.filter(isOfPod).map((a) => a.address)).toEqual(['10.0.0.7']);
  });
});
