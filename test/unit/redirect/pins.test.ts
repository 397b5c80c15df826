import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { fingerprint } from '../../../src/redirect/ebpf/constants.ts';
import { mapSizes } from '../../../src/redirect/ebpf/map-sizes.ts';
import { pinnedCookies, pinsIn, removeLeftovers, removeTree, replacePin } from '../../../src/redirect/ebpf/pins.ts';

let dir = '';
beforeEach(() => void (dir = mkdtempSync(`${tmpdir()}/cvt-red-`)));
afterEach(() => rmSync(dir, { recursive: true, force: true }));

describe('pins', () => {
  test('no name of ours has a dot: bpffs refuses it', () => {
    const pins = pinsIn('/d');
    for (const path of [pins.maps, pins.links, pins.progs, pins.lookup(0xabcn)]) expect(path).not.toContain('.');
    expect(pins.lookup(0xabcn)).toBe('/d/pods/abc/lookup');
  });

  test('cookies are read back from the directory names', () => {
    const pins = pinsIn(dir);
    mkdirSync(pins.pod(0x1234567890abcdefn), { recursive: true });
    mkdirSync(`${pins.pods}/not-a-cookie`);
    expect(pinnedCookies(pins)).toEqual([0x1234567890abcdefn]);
    expect(pinnedCookies(pinsIn(`${dir}/none`))).toEqual([]);
  });

  test('leftovers of our own instance go, another instance’s stay', () => {
    mkdirSync(`${dir}/tmp-a1-77/maps`, { recursive: true });
    writeFileSync(`${dir}/tmp-a1-77/maps/pods`, '');
    mkdirSync(`${dir}/tmp-a12-77`);
    expect(removeLeftovers(pinsIn(dir), 0xa1n)).toEqual(['tmp-a1-77']);
    expect(readdirSync(dir)).toEqual(['tmp-a12-77']);
  });

  test('a pin is replaced in one step', () => {
    writeFileSync(`${dir}/connect4`, 'old');
    replacePin((path) => writeFileSync(path, 'new'), `${dir}/connect4`, `${dir}/tmp-1-1`);
    expect(readdirSync(dir).toSorted()).toEqual(['connect4', 'tmp-1-1']);
    removeTree(`${dir}/tmp-1-1`);
    expect(readdirSync(dir)).toEqual(['connect4']);
  });
});

describe('what a program is compared by', () => {
  test('the fingerprint depends on every constant, not on their order', () => {
    expect(fingerprint({ a: 1, b: 2n })).toBe(fingerprint({ b: 2n, a: 1 }));
    expect(fingerprint({ a: 1 })).not.toBe(fingerprint({ a: 2 }));
    expect(fingerprint({ a: 1 })).toMatch(/^[0-9a-f]{16}$/);
  });
});

test('every map that holds entries per pod grows with the pods', () => {
  const small = mapSizes(10);
  const large = mapSizes(1000);
  for (const name of ['pods', 'identity', 'own', 'listeners', 'generation', 'pod_by_addr', 'counters'])
    expect(large[name]).toBeGreaterThan((small[name] ?? 0) * 10);
  expect(large['own']).toBeGreaterThanOrEqual(32 * 1000);
  expect(large['listeners']).toBeGreaterThanOrEqual(16 * 1000);
});
