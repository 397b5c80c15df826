/**
 * Connections that are open while a netns gets its first NAT rule. Conntrack meets them in mid-stream, by default takes each for a new
 * one, and NAT then redirects its packets: the connection is reset (tried with REDIRECT in PREROUTING, iptables-legacy and -nft: the
 * next packet of an idle connection is answered with RST). With net.netfilter.nf_conntrack_tcp_loose=0 conntrack leaves them alone.
 * Who brings NAT rules says so before: a driver of rules, and whoever expects those of istio-cni. Where there are none it stays as it is.
 */
import { isSystem } from '../base/errors.ts';
import type { Netns } from '../sys/netns.ts';

const LOOSE = 'net/netfilter/nf_conntrack_tcp_loose';

/** Open connections are left alone by NAT rules that come later, whoever makes them. A kernel without conntrack has nothing to be told. */
export function spareOpenStreams(netns: Netns): void {
  write(netns, '0');
}

/** As the kernel has it in a new netns. */
export function forgetOpenStreams(netns: Netns): void {
  write(netns, '1');
}

function write(netns: Netns, value: string): void {
  try {
    netns.run({ op: 'sysctl', path: LOOSE, value });
  } catch (error) {
    if (!isSystem(error, 'ENOENT')) throw error;
  }
}
