import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { decode, encode, structs, type StructName } from '../../../src/maps/index.ts';

const address = fc.oneof(fc.ipV4(), fc.constantFrom('fd00::1', '::', '::1', '2001:db8::8:800:200c:417a'));
const valueOf = (kind: string, size = 0): fc.Arbitrary<unknown> => {
  switch (kind) {
    case 'u64':
      return fc.bigInt({ min: 0n, max: 2n ** 64n - 1n });
    case 'u32':
      return fc.integer({ min: 0, max: 2 ** 32 - 1 });
    case 'u16':
    case 'port':
      return fc.integer({ min: 0, max: 65535 });
    case 'address':
      return address;
    default:
      return fc.string({ unit: fc.constantFrom('a', '/', 'é', ' ', '-'), maxLength: Math.floor((size - 1) / 2) });
  }
};

describe.each(Object.keys(structs) as StructName[])('struct %s', (name) => {
  const fields = Object.entries(structs[name].fields) as [string, { offset: number; kind: string; size?: number }][];
  const arbitrary = fc.record(Object.fromEntries(fields.map(([field, { kind, size }]) => [field, valueOf(kind, size)])));

  test('survives encoding', () => {
    fc.assert(
      fc.property(arbitrary, (value) => {
        const bytes = encode(name, value as never);
        expect(bytes).toHaveLength(structs[name].size);
        expect(decode(name, bytes)).toEqual(value);
      }),
    );
  });

  test('is read at any offset of a larger buffer', () => {
    fc.assert(
      fc.property(arbitrary, fc.integer({ min: 0, max: 9 }), (value, shift) => {
        const larger = new Uint8Array(structs[name].size + shift + 3);
        larger.set(encode(name, value as never), shift);
        expect(decode(name, larger.subarray(shift))).toEqual(value);
      }),
    );
  });
});

describe('bytes', () => {
  test('ports are in network order, numbers in the machine’s, reserved bytes zero', () => {
    const bytes = encode('tuple', { cookie: 0x0102030405060708n, src: '10.0.0.1', dst: 'fd00::1', sport: 0x1234, dport: 80 });
    expect([...bytes.subarray(0, 8)]).toEqual([8, 7, 6, 5, 4, 3, 2, 1]);
    expect([...bytes.subarray(40, 48)]).toEqual([0x12, 0x34, 0, 80, 0, 0, 0, 0]);
  });

  test('text must leave room for its NUL', () => {
    const identity = { uid: 'u', namespace: 'n', name: 'p', netns: '' };
    expect(() => encode('identity', { ...identity, netns: 'x'.repeat(128) })).toThrow('encode identity.netns: 128 bytes, room for 127');
    expect(decode('identity', encode('identity', { ...identity, netns: 'é'.repeat(63) })).netns).toBe('é'.repeat(63));
  });

  test('scalars', () => {
    expect(decode('u8', encode('u8', 200))).toBe(200);
    expect(decode('i32', encode('i32', -1))).toBe(-1);
    expect(decode('port', Uint8Array.of(0, 53))).toBe(53);
  });
});
