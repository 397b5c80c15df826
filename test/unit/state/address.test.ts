import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { canonicalIp, familyOf, formatAddress, isLoopback, parseAuthority, unmapped } from '../../../src/state/address.ts';

describe('addresses', () => {
  it.each([
    ['10.0.0.1', '10.0.0.1'],
    ['FD00:0:0::1', 'fd00::1'],
    ['::ffff:1.2.3.4', '1.2.3.4'],
    ['::FFFF:102:304', '1.2.3.4'],
    ['fe80::1%eth0', undefined],
    ['web', undefined],
    ['', undefined],
  ])('%s is %s', (text, expected) => {
    expect(canonicalIp(text)).toBe(expected);
  });

  it('takes IPv4 out of what the kernel spells as mapped', () => {
    expect(unmapped('::ffff:10.0.0.1')).toBe('10.0.0.1');
    expect(unmapped('::ffff:a00:1')).toBe('::ffff:a00:1');
    expect(familyOf('::1')).toBe(6);
  });

  it.each([
    ['127.0.0.1', true],
    ['127.9.9.9', true],
    ['::1', true],
    ['128.0.0.1', false],
    ['::', false],
    ['fd00::1', false],
  ])('loopback %s: %s', (ip, expected) => {
    expect(isLoopback(ip)).toBe(expected);
  });
});

describe('authority', () => {
  it.each([
    ['10.0.0.1:80', { ip: '10.0.0.1', port: 80 }],
    ['[fd00::0:1]:8080', { ip: 'fd00::1', port: 8080 }],
    ['[::ffff:10.0.0.1]:80', { ip: '10.0.0.1', port: 80 }],
  ])('%s', (text, expected) => {
    expect(parseAuthority(text)).toEqual(expected);
  });

  it.each([
    '',
    '10.0.0.1',
    '10.0.0.1:',
    '10.0.0.1:0',
    '10.0.0.1:65536',
    '10.0.0.1:+80',
    'fd00::1:80',
    '[10.0.0.1]:80',
    '[fd00::1]',
    'web:80',
    '999.0.0.1:80',
    '10.0.0.1:80 ',
    'user@10.0.0.1:80',
    '[fe80::1%1]:80',
  ])('refuses "%s"', (text) => {
    expect(parseAuthority(text)).toBeUndefined();
  });

  it('reads back what it writes', () => {
    const ip = fc
      .oneof(fc.ipV4(), fc.ipV6())
      .map((text) => canonicalIp(text))
      .filter((text) => text !== undefined);
    fc.assert(
      fc.property(ip, fc.integer({ min: 1, max: 65535 }), (address, port) => {
        expect(parseAuthority(formatAddress({ ip: address, port }))).toEqual({ ip: address, port });
      }),
    );
  });

  it('never throws', () => {
    fc.assert(fc.property(fc.string(), (text) => void parseAuthority(text)));
  });
});
