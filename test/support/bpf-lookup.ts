/** Contexts for sk_lookup programs under BPF_PROG_TEST_RUN, and the addresses that the tests of its decisions use. */
import { parseAddress } from '../../src/maps/index.ts';

/** of no netns that is there */
export const COOKIE = 0x1234_5678_9abcn;
export const SPORT = 40000;
const TCP = 6;

export const addresses = {
  v4: { own: '10.0.0.2', own2: '10.0.0.3', foreign: '10.9.9.9', loopback: '127.3.2.1', probe: '169.254.7.127' },
  v6: { own: 'fd00::2', own2: 'fd00::3', foreign: 'fd09::9', loopback: '::1', probe: 'fd16:9254:7127:1337:ffff:ffff:ffff:ffff' },
};
export type Addresses = (typeof addresses)['v4'];

/** struct bpf_sk_lookup of uapi linux/bpf.h: 64 bits cookie out, family, protocol, remote and local end. */
export function contextOf(src: string, dst: string, dport: number, protocol = TCP): Uint8Array {
  const bytes = new Uint8Array(72);
  const view = new DataView(bytes.buffer);
  const six = src.includes(':');
  view.setUint32(8, six ? 10 : 2, true);
  view.setUint32(12, protocol, true);
  const put = (at: number, at6: number, address: string): void =>
    six ? bytes.set(parseAddress(address), at6) : bytes.set(parseAddress(address).subarray(12), at);
  put(16, 20, src);
  view.setUint16(36, SPORT, false);
  put(40, 44, dst);
  view.setUint32(60, dport, true);
  return bytes;
}
