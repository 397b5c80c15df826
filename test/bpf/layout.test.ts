/** What TypeScript writes is what the kernel's own reading of the BTF says, and back. */
import { execFileSync } from 'node:child_process';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { decode, formatAddress, maps as layout, mapsOf, structs, type Maps, type StructName } from '../../src/maps/index.ts';
import type { TypedMap, TypedMapName } from '../../src/maps/index.ts';
import { bpfObject, native, type LoadedObject } from '../../src/sys/native.ts';

let loaded: LoadedObject;
let maps: Maps;
beforeAll(() => {
  loaded = native.bpfLoad(bpfObject(), { rodata: {}, reuse: {}, maxEntries: { pods: 7 }, programs: [] });
  maps = mapsOf(loaded);
});
afterAll(() => loaded.close());

const tuple = { cookie: 2n ** 63n + 1n, src: '10.1.2.3', dst: '192.168.254.255', sport: 1, dport: 65535 };
const six = { ...tuple, src: 'fd00::1:2', dst: '2001:db8:1:2:3:4:5:6', sport: 443, dport: 15008 };

type Formatted = number | string | Formatted[] | { [field: string]: Formatted };

/** bpftool's rendering of a value by the map's BTF, with big numbers kept exact. */
function dumpOf(fd: number): { key: Formatted; value?: Formatted; values?: { value: Formatted }[] }[] {
  const text = execFileSync('bpftool', ['-j', 'map', 'dump', 'id', String(native.bpfInfo(fd).id)], { encoding: 'utf8' });
  const exact = text.replace(/:(\d{16,})/g, ':"$1"');
  return (JSON.parse(exact) as { formatted: { key: Formatted; value?: Formatted } }[]).map((row) => row.formatted);
}

/** The same as our codec has it: addresses and ports are told by the layout, as bpftool knows only bytes. */
function asOurs(kind: string, value: Formatted): unknown {
  if (kind === 'u64') return BigInt(value as number | string);
  if (kind === 'port') return (((value as number) & 0xff) << 8) | ((value as number) >> 8);
  if (kind === 'address') return formatAddress(new Uint8Array(Uint32Array.from((value as { w: number[] }).w).buffer));
  if (kind === 'text') return text(value);
  if (kind in structs) {
    const fields = Object.entries(structs[kind as StructName].fields) as [string, { kind: string }][];
    return Object.fromEntries(fields.map(([name, field]) => [name, asOurs(field.kind, (value as Record<string, Formatted>)[name]!)]));
  }
  return value;
}

const text = (value: Formatted): string =>
  typeof value === 'string'
    ? value
    : (value as (string | number)[])
        .map((c) => (typeof c === 'number' ? String.fromCharCode(c) : c))
        .join('')
        .replace(/\0.*$/s, '');

function expectSame<N extends TypedMapName>(map: TypedMap<N>): void {
  const { key, value } = layout[map.name];
  const theirs = dumpOf(map.fd).map((row) => ({ key: asOurs(key, row.key), value: asOurs(value, row.value!) }));
  const order = (a: { key: unknown }, b: { key: unknown }): number => (describe(a.key) < describe(b.key) ? -1 : 1);
  expect(map.entries().sort(order)).toEqual(theirs.sort(order));
}
const describe = (key: unknown): string => JSON.stringify(key, (_, v: unknown) => (typeof v === 'bigint' ? String(v) : v));

test('pods', () => {
  maps.pods.set(2n ** 64n - 1n, { state: 2, flags: 5 });
  maps.pods.set(1n, { state: 3, flags: 0 });
  expect(maps.pods.get(2n ** 64n - 1n)).toEqual({ state: 2, flags: 5 });
  expectSame(maps.pods);
});

test('identity', () => {
  maps.identity.set(9n, { uid: '1b4e28ba-2fa1-11d2-883f-0016d3cca427', namespace: 'shop', name: 'ünïcode', netns: '/run/netns/a b' });
  expect(maps.identity.get(9n)).toEqual({
    uid: '1b4e28ba-2fa1-11d2-883f-0016d3cca427',
    namespace: 'shop',
    name: 'ünïcode',
    netns: '/run/netns/a b',
  });
  maps.identity.set(9n, { uid: 'u', namespace: 'n'.repeat(63), name: 'x'.repeat(255), netns: '' });
  expectSame(maps.identity);
  expect(() => maps.identity.set(9n, { uid: 'u', namespace: 'n'.repeat(64), name: '', netns: '' })).toThrow(RangeError);
});

test('own, pod_by_addr, tuples, generation, tunnels', () => {
  for (const addr of ['10.0.0.1', 'fd00::1', '::1', '127.0.0.1']) {
    maps.own.set({ cookie: 5n, addr }, 1);
    maps.podByAddr.set(addr, 5n);
  }
  for (const t of [tuple, six]) {
    maps.inner.set(t, 2n ** 60n);
    maps.exempt.set(t, 7n);
  }
  maps.generation.set({ cookie: 5n, port: 15001 }, 0xffff_ffff);
  maps.tunnels.set(2n ** 40n, 3n);
  expectSame(maps.own);
  expectSame(maps.podByAddr);
  expectSame(maps.inner);
  expectSame(maps.exempt);
  expectSame(maps.generation);
  expectSame(maps.tunnels);
  expect(maps.inner.get(six)).toBe(2n ** 60n);
});

test('settings, owner', () => {
  maps.settings.set(0, { event_mask: 7, istio_probes: 3 });
  maps.owner.set(0, { instance: 2n ** 64n - 2n, abi: 1, version: '0.1.0' });
  expectSame(maps.settings);
  expectSame(maps.owner);
});

test('kubelets, trials, node_sources', () => {
  maps.kubelets.set(2n ** 40n, 3n);
  for (const addr of ['10.0.0.1', 'fd00::1']) {
    maps.trials.set({ cookie: 5n, addr }, { src: addr, sport: 65534, seen: 1 });
    maps.nodeSources.set({ cookie: 5n, addr }, 1);
  }
  expectSame(maps.kubelets);
  expectSame(maps.trials);
  expectSame(maps.nodeSources);
  expect(maps.trials.get({ cookie: 5n, addr: 'fd00::1' })).toEqual({ src: 'fd00::1', sport: 65534, seen: 1 });
});

test('counters are read as the sum over CPUs', () => {
  const key = { cookie: 5n, reason: 8 };
  maps.counters.set(key, 41n);
  expect(maps.counters.get(key)).toBe(41n);
  expect(maps.counters.entries()).toEqual([{ key, value: 41n }]);
  const sum = dumpOf(maps.counters.fd)[0]!.values!.reduce((total, { value }) => total + Number(value), 0);
  expect(sum).toBe(41);
});

test('a full map says so, with its size', () => {
  expect(() => {
    for (let i = 100n; i < 120n; i++) maps.pods.set(i, { state: 1, flags: 0 });
  }).toThrow(expect.objectContaining({ code: 'MAP_FULL', message: 'update map pods: full at 7 entries' }) as Error);
});

test('sizes in the layout are those of the object', () => {
  for (const map of loaded.maps) {
    if (!(map.name in layout)) continue;
    const { typeNumber, keySize, valueSize } = layout[map.name as keyof typeof layout];
    expect([map.type, map.keySize, map.valueSize]).toEqual([typeNumber, keySize, valueSize]);
  }
  expect(decode('event', new Uint8Array(structs.event.size)).dst).toBe('::');
});
