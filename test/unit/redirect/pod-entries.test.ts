import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { Maps } from '../../../src/maps/index.ts';
import { nothingWritten, readWritten, removeByAddress, writeAddresses } from '../../../src/redirect/ebpf/pod-entries.ts';
import type { Address } from '../../../src/sys/native.ts';

/** `own` and `pod_by_addr` in memory, with the order of what was done to them. */
class FakeMap<K, V> {
  readonly items = new Map<string, { key: K; value: V }>();
  readonly #log: string[];
  readonly #name: string;
  constructor(name: string, log: string[]) {
    this.#name = name;
    this.#log = log;
  }
  #id(key: K): string {
    return JSON.stringify(key, (_, v: unknown) => (typeof v === 'bigint' ? String(v) : v));
  }
  get(key: K): V | undefined {
    return this.items.get(this.#id(key))?.value;
  }
  set(key: K, value: V): void {
    this.#log.push(`+${this.#name}`);
    this.items.set(this.#id(key), { key, value });
  }
  delete(key: K): boolean {
    this.#log.push(`-${this.#name}`);
    return this.items.delete(this.#id(key));
  }
  entries(): { key: K; value: V }[] {
    return [...this.items.values()];
  }
}
function fake(): { maps: Maps; own: FakeMap<{ cookie: bigint; addr: string }, number>; by: FakeMap<string, bigint>; log: string[] } {
  const log: string[] = [];
  const own = new FakeMap<{ cookie: bigint; addr: string }, number>('own', log);
  const by = new FakeMap<string, bigint>('by', log);
  const pods = new FakeMap<bigint, object>('pods', []);
  return { maps: { own, podByAddr: by, pods } as unknown as Maps, own, by, log };
}
const address = (text: string, device = 'eth0', scope = 0): Address => ({
  address: text,
  family: text.includes(':') ? 6 : 4,
  ifindex: 2,
  device,
  scope,
  prefix: 24,
});

describe('addresses of a netns in the maps', () => {
  test('lo and link-local are own, but nobody probes them', () => {
    const { maps, own, by } = fake();
    writeAddresses(maps, 5n, nothingWritten(), [address('127.0.0.1', 'lo', 254), address('fe80::1', 'eth0', 253), address('10.0.0.7')]);
    expect(own.entries().map((e) => e.key.addr)).toEqual(['127.0.0.1', 'fe80::1', '10.0.0.7']);
    expect(by.entries()).toEqual([{ key: '10.0.0.7', value: 5n }]);
  });

  test('removals before additions, probes before own addresses', () => {
    const { maps, log } = fake();
    const written = nothingWritten();
    writeAddresses(maps, 5n, written, [address('10.0.0.7')]);
    log.length = 0;
    writeAddresses(maps, 5n, written, [address('10.0.0.8')]);
    expect(log).toEqual(['-own', '-by', '+by', '+own']);
  });

  test('an address that a newer pod has taken over stays the newer one’s', () => {
    const { maps, by } = fake();
    const old = nothingWritten();
    writeAddresses(maps, 5n, old, [address('10.0.0.7')]);
    writeAddresses(maps, 6n, nothingWritten(), [address('10.0.0.7')]);
    removeByAddress(maps, 5n, old);
    expect(by.get('10.0.0.7')).toBe(6n);
  });

  test('an address that a pod gives itself later stays the other pod’s while that is enrolled, and is told', () => {
    const { maps, own, by } = fake();
    writeAddresses(maps, 5n, nothingWritten(), [address('10.0.0.7')]);
    maps.pods.set(5n, { state: 2, flags: 0 });
    const thief = nothingWritten();
    writeAddresses(maps, 6n, thief, [address('10.0.0.8')]);
    const both = [address('10.0.0.8'), address('10.0.0.7')];
    writeAddresses(maps, 6n, thief, both);
    expect(by.get('10.0.0.7')).toBe(5n);
    expect(own.get({ cookie: 6n, addr: '10.0.0.7' })).toBe(1); // it does reach itself there
    expect(thief.refused).toEqual([{ addr: '10.0.0.7', holder: 5n }]);
    maps.pods.delete(5n);
    writeAddresses(maps, 6n, thief, both);
    expect(by.get('10.0.0.7')).toBe(6n);
    expect(thief.refused).toEqual([]);
  });

  test('of more addresses than a pod may have those stay that were there', () => {
    const { maps, own } = fake();
    const written = nothingWritten();
    writeAddresses(maps, 5n, written, [address('10.0.0.7')]);
    const many = Array.from({ length: 300 }, (_, i) => address(`10.1.${i >> 8}.${i & 255}`, 'lo'));
    writeAddresses(maps, 5n, written, [...many, address('10.0.0.7')]);
    expect(own.entries()).toHaveLength(256);
    expect(own.get({ cookie: 5n, addr: '10.0.0.7' })).toBe(1);
    expect(written.refused).toHaveLength(45);
  });

  test('whatever came before, a resync ends at the addresses there are, also from a reading of the maps', () => {
    const some = fc.uniqueArray(fc.constantFrom('10.0.0.1', '10.0.0.2', '10.0.0.3', 'fd00::1', 'fd00::2'));
    fc.assert(
      fc.property(fc.array(some), fc.boolean(), (steps, restart) => {
        const { maps, own, by } = fake();
        let written = nothingWritten();
        for (const step of steps) {
          if (restart) written = readWritten(maps).get(5n) ?? nothingWritten();
          writeAddresses(
            maps,
            5n,
            written,
            step.map((a) => address(a)),
          );
        }
        const last = (steps.at(-1) ?? []).toSorted();
        expect(
          own
            .entries()
            .map((e) => e.key.addr)
            .toSorted(),
        ).toEqual(last);
        expect(
          by
            .entries()
            .map((e) => e.key)
            .toSorted(),
        ).toEqual(last);
      }),
    );
  });
});
