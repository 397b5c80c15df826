import { SocketAddress } from 'node:net';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { formatAddress, formatEnd, parseAddress } from '../../../src/maps/index.ts';

describe('addresses', () => {
  test.each([
    ['10.0.0.1', '10.0.0.1'],
    ['::ffff:10.0.0.1', '10.0.0.1'],
    ['::ffff:a00:1', '10.0.0.1'],
    ['0.0.0.0', '0.0.0.0'],
    ['::', '::'],
    ['::1', '::1'],
    ['FD00:0:0:0::1', 'fd00::1'],
    ['1:0:0:2:0:0:0:3', '1:0:0:2::3'],
    ['1:0:2:0:3:0:4:0', '1:0:2:0:3:0:4:0'],
    ['fe80::', 'fe80::'],
    ['64:ff9b::192.0.2.33', '64:ff9b::c000:221'],
  ])('%s is written %s', (text, canonical) => {
    expect(formatAddress(parseAddress(text))).toBe(canonical);
  });

  test.each(['', '10.0.0', '10.0.0.256', 'fe80::1%eth0', 'localhost', '[::1]', '1::2::3'])('%j is none', (text) => {
    expect(() => parseAddress(text)).toThrow(RangeError);
  });

  test('IPv4 is kept as ::ffff:a.b.c.d', () => {
    expect([...parseAddress('10.0.0.1')]).toEqual([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 10, 0, 0, 1]);
  });

  test('any 16 bytes survive, and are written as the platform writes them', () => {
    // zeros are rare at random and decide how an address is shortened
    const group = fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 0xffff }));
    fc.assert(
      fc.property(fc.array(group, { minLength: 8, maxLength: 8 }), (groups) => {
        const bytes = Uint8Array.from(groups.flatMap((g) => [g >> 8, g & 255]));
        const text = formatAddress(bytes);
        expect(parseAddress(text)).toEqual(bytes);
        // inet_ntop writes ::a.b.c.d for the deprecated compatible addresses; RFC 5952 asks for hexadecimal
        fc.pre(!groups.slice(0, 6).every((g) => g === 0) && !text.includes('.'));
        expect(text).toBe(new SocketAddress({ address: text, family: 'ipv6' }).address);
      }),
    );
  });

  test('ends have brackets around IPv6', () => {
    expect([formatEnd('10.0.0.1', 80), formatEnd('fd00::1', 80)]).toEqual(['10.0.0.1:80', '[fd00::1]:80']);
  });
});
