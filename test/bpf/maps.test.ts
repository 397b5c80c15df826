/** Pinned maps: opened by name, refused when they are another version's, and shown as rows by `culvert maps`. */
import { once } from 'node:events';
import { mkdirSync, renameSync, rmdirSync, unlinkSync } from 'node:fs';
import { createServer } from 'node:net';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import {
  dumpMaps,
  mapsOf,
  openPinnedMap,
  openPinnedMaps,
  pinnedMaps,
  podFlag,
  podState,
  REASON,
  type Maps,
  type Row,
} from '../../src/maps/index.ts';
import { bpfObject, native, type LoadedObject } from '../../src/sys/native.ts';
import { expectNothingLeft, idsOf } from '../support/bpf-leftovers.ts';
import { TestNode, tree } from '../support/netns.ts';

const COOKIE = 77n;
const GONE = 78n;
let node: TestNode;
let dir: string;
let loaded: LoadedObject;

beforeAll(async () => {
  node = await TestNode.create('bpf');
  dir = `${node.bpffs}/maps`;
  mkdirSync(dir);
  loaded = native.bpfLoad(bpfObject(), { rodata: {}, reuse: {}, maxEntries: { pods: 9 }, programs: [] });
  for (const { name, fd } of loaded.maps) if ((pinnedMaps as string[]).includes(name)) native.bpfPin(fd, `${dir}/${name}`);
});
afterAll(async () => {
  const ids = idsOf(loaded);
  loaded.close();
  for (const name of tree(dir)) unlinkSync(`${dir}/${name}`);
  rmdirSync(dir);
  await node.close();
  await expectNothingLeft(node, ids);
});

describe('opening', () => {
  test('all by their pins', () => {
    using maps = openPinnedMaps(dir);
    maps.pods.set(1n, { state: 1, flags: 0 });
    expect(mapsOf(loaded).pods.get(1n)).toEqual({ state: 1, flags: 0 });
    expect(maps.pods.delete(1n)).toBe(true);
    expect(maps.pods.delete(1n)).toBe(false);
  });

  test('one', () => {
    const owner = openPinnedMap(dir, 'owner');
    owner.set(0, { instance: 5n, abi: 1, version: '0.1.0' });
    expect(owner.get(0)).toEqual({ instance: 5n, abi: 1, version: '0.1.0' });
    owner.close();
  });

  test('nothing goes through a handle whose fd may be another map’s by now', () => {
    const maps = openPinnedMaps(dir);
    maps.close();
    const other = native.bpfGet(`${dir}/identity`); // larger values than those of `pods`
    try {
      expect(() => maps.pods.get(1n)).toThrow(expect.objectContaining({ cause: expect.objectContaining({ code: 'EBADF' }) as unknown }));
    } finally {
      native.closeFd(other);
    }
  });

  test('a map that an earlier version did not have is empty', () => {
    renameSync(`${dir}/trials`, `${node.bpffs}/aside`);
    try {
      using maps = openPinnedMaps(dir);
      expect(maps.trials.entries()).toEqual([]);
      expect(maps.trials.get({ cookie: 1n, addr: '10.0.0.1' })).toBeUndefined();
      expect(maps.trials.delete({ cookie: 1n, addr: '10.0.0.1' })).toBe(false);
      expect(() => maps.trials.set({ cookie: 1n, addr: '10.0.0.1' }, { src: '::', sport: 0, seen: 0 })).toThrow(/map trials/);
      expect(dumpMaps(maps, 'trials')).toMatchObject([{ map: 'trials', entries: 0, maxEntries: 0, rows: [] }]);
    } finally {
      renameSync(`${node.bpffs}/aside`, `${dir}/trials`);
    }
  });

  test('names the pin that is missing', () => {
    expect(() => openPinnedMaps(`${dir}/nowhere`)).toThrow(expect.objectContaining({ code: 'SYSTEM', systemCode: 'ENOENT' }) as Error);
  });

  test("refuses another version's map, naming what differs", () => {
    renameSync(`${dir}/generation`, `${node.bpffs}/generation`);
    native.bpfPin(loaded.maps.find((m) => m.name === 'pods')!.fd, `${dir}/generation`);
    try {
      expect(() => openPinnedMaps(dir)).toThrow(
        expect.objectContaining({
          code: 'MAP_LAYOUT',
          message: expect.stringContaining('open map generation: it has keys of 8 bytes, not 16') as string,
        }) as Error,
      );
    } finally {
      unlinkSync(`${dir}/generation`);
      renameSync(`${node.bpffs}/generation`, `${dir}/generation`);
    }
  });
});

describe('as rows', () => {
  let maps: Maps;
  const now = process.hrtime.bigint();
  const second = 1_000_000_000n;

  beforeAll(async () => {
    maps = openPinnedMaps(dir);
    maps.pods.set(COOKIE, { state: podState.POD_ACTIVE, flags: podFlag.POD_DNS | podFlag.POD_INGRESS_MODE });
    maps.identity.set(COOKIE, { uid: 'u1', namespace: 'shop', name: 'web', netns: '/run/netns/web' });
    maps.identity.set(GONE, { uid: 'u2', namespace: 'shop', name: 'old', netns: '' });
    for (const [cookie, addr] of [
      [COOKIE, '10.0.0.1'],
      [GONE, 'fd00::2'],
    ] as const) {
      maps.own.set({ cookie, addr }, 1);
      maps.podByAddr.set(addr, cookie);
    }
    const server = createServer().listen(0);
    await once(server, 'listening');
    maps.listeners.set({ cookie: COOKIE, port: 15001, slot: 1 }, BigInt((server as unknown as { _handle: { fd: number } })._handle.fd));
    maps.generation.set({ cookie: COOKIE, port: 15001 }, 5);
    maps.generation.set({ cookie: COOKIE, port: 15006 }, 1);
    const tuple = { cookie: COOKIE, src: '10.9.0.1', sport: 1, dst: '10.0.0.1', dport: 80 };
    maps.inner.set(tuple, now - second);
    maps.inner.set({ ...tuple, sport: 2 }, now - 11n * second);
    maps.exempt.set(tuple, now - 11n * second);
    maps.counters.set({ cookie: COOKIE, reason: REASON.OUT_PASS_OWN }, 3n);
    return () => new Promise((resolve) => server.close(resolve));
  });
  afterAll(() => {
    maps.close();
  });

  const rowsOf = (name: string): Row[] => dumpMaps(maps, name)[0]!.rows;
  const common = { cookie: '77', pod: 'shop/web', stale: false };
  const gone = { cookie: '78', pod: 'shop/old', stale: true };

  test('every pinned map, with type and fill', () => {
    const dumps = dumpMaps(maps);
    expect(dumps.map((d) => d.map).sort()).toEqual([...pinnedMaps].sort());
    expect(dumps.find((d) => d.map === 'pods')).toMatchObject({ type: 'hash', entries: 1, maxEntries: 9 });
    for (const { entries, rows, maxEntries } of dumps) {
      expect(entries).toBe(rows.length);
      expect(maxEntries).toBeGreaterThan(0);
    }
    expect(() => JSON.stringify(dumps)).not.toThrow();
  });

  test('an unknown name is an error', () => {
    expect(() => dumpMaps(maps, 'nonsense')).toThrow(expect.objectContaining({ code: 'USAGE' }) as Error);
  });

  test('pods', () => {
    expect(rowsOf('pods')).toEqual([{ ...common, state: 'active', flags: ['dns', 'ingress-mode'] }]);
  });

  test.each(['own', 'pod_by_addr'])('%s: what belongs to no pod is stale', (name) => {
    expect(rowsOf(name).sort((a, b) => (String(a['cookie']) < String(b['cookie']) ? -1 : 1))).toEqual([
      { ...common, addr: '10.0.0.1' },
      { ...gone, addr: 'fd00::2' },
    ]);
  });

  test('listeners and generation: a port without living listener is stale', () => {
    expect(rowsOf('listeners')).toEqual([{ ...common, port: 15001, slot: 1, socket: expect.stringMatching(/^[1-9]\d*$/) as string }]);
    expect(rowsOf('generation').sort((a, b) => Number(a['port']) - Number(b['port']))).toEqual([
      { ...common, port: 15001, generation: 5, slot: 1 },
      { ...common, port: 15006, generation: 1, slot: 1, stale: true },
    ]);
  });

  test('inner and exempt: age decides', () => {
    expect(Object.fromEntries(rowsOf('inner').map((r) => [r['sport'], r.stale]))).toEqual({ 1: false, 2: true });
    expect(rowsOf('exempt')[0]).toMatchObject({ ...common, src: '10.9.0.1', dst: '10.0.0.1', dport: 80 });
  });

  test('counters, owner, settings', () => {
    expect(rowsOf('counters')).toEqual([{ ...common, reason: 'OUT_PASS_OWN', count: 3 }]);
    expect(rowsOf('owner')).toMatchObject([{ instance: '5', abi: 1, version: '0.1.0', pod: null }]);
    expect(rowsOf('settings')).toMatchObject([{ events: ['refused'] }]);
  });
});
