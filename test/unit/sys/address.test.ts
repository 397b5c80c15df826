/** Addresses in text survive the way through the kernel: bound to, and read back. IP_FREEBIND needs neither the address nor privilege. */
import fc from 'fast-check';
import { SocketAddress } from 'node:net';
import { describe, expect, it } from 'vitest';
import { native } from '../../../src/sys/native.ts';

const OWN_NETNS = -1;

function throughKernel(family: 4 | 6, address: string, port: number): { address: string; port: number } {
  const fd = native.netnsSocket(OWN_NETNS, { family, type: 'udp', freebind: true, reuseAddr: true, bind: { address, port } });
  try {
    return native.socketNames(fd).local;
  } finally {
    native.closeFd(fd);
  }
}

/** Binding to these needs a scope, or the kernel refuses it as a matter of meaning. */
const special = /^(fe[89ab]|ff)/;
const port = fc.integer({ min: 1024, max: 65_535 });
const ipv6 = fc.ipV6().map((text) => new SocketAddress({ address: text, family: 'ipv6' }).address);

describe('address text', () => {
  it('of IPv4 is what was given', () => {
    fc.assert(
      fc.property(
        fc.ipV4().filter((text) => Number(text.split('.')[0]) < 224),
        port,
        (address, port) => {
          expect(throughKernel(4, address, port)).toEqual({ address, port });
        },
      ),
    );
  });

  it('of IPv6 is its canonical form, however it was written', () => {
    fc.assert(
      fc.property(fc.ipV6(), port, (written, port) => {
        const canonical = new SocketAddress({ address: written, family: 'ipv6' }).address;
        fc.pre(!special.test(canonical));
        expect(throughKernel(6, written, port)).toEqual({ address: canonical, port });
        expect(throughKernel(6, canonical, port).address).toBe(canonical);
      }),
    );
  });

  it('of IPv4 on an IPv6 socket is mapped, and mapped text on an IPv4 socket is not', () => {
    fc.assert(
      fc.property(
        fc.ipV4().filter((text) => Number(text.split('.')[0]) < 224),
        port,
        (address, port) => {
          expect(throughKernel(6, address, port).address).toBe(`::ffff:${address}`);
          expect(throughKernel(6, `::ffff:${address}`, port).address).toBe(`::ffff:${address}`);
          expect(throughKernel(4, `::ffff:${address}`, port).address).toBe(address);
        },
      ),
    );
  });

  it('that is no address is refused', () => {
    const notAddress = fc.oneof(
      fc.string(),
      fc.constantFrom('1.2.3', '1.2.3.4.5', '::ffff:1.2.3', '1::2::3', '[::1]', '127.1', ' ::1', '::1%', '::1%absent0'),
    );
    fc.assert(
      fc.property(notAddress, fc.constantFrom(4 as const, 6 as const), (text, family) => {
        fc.pre(SocketAddress.parse(`[${text}]:1`) === undefined && SocketAddress.parse(`${text}:1`) === undefined);
        expect(() => throughKernel(family, text, 1024)).toThrow(/^(EINVAL|ENODEV)/);
      }),
    );
    expect(() => throughKernel(4, '::1', 1024)).toThrow(/EINVAL/);
  });

  it('keeps the scope of a link-local address', () => {
    expect(throughKernel(6, 'fe80::1%lo', 2000).address).toBe('fe80::1%1');
    expect(throughKernel(6, 'fe80::1%1', 2001).address).toBe('fe80::1%1');
  });

  it('of fast-check covers compressed and embedded forms', () => {
    const seen = fc.sample(ipv6, 2000);
    expect(seen.some((text) => text.includes('::'))).toBe(true);
  });
});
