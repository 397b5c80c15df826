/**
 * What istio-cni put into the node's own netns: chain ISTIO_POSTRT of nat, which gives the node's connections to its pods the probe
 * address, and the sets that it looks into; or the nftables tables istio-ambient-nat, -mangle and -raw. Seen without starting a program.
 * Whoever has an ISTIO_PRERT, or the same of nftables, expects that address.
 */
import type { Netns } from '../../sys/netns.ts';
import type { DiagSocket, NftChain } from '../../sys/native.ts';
import { tracesIn, type IptablesTrace, type Table } from './traces.ts';

export const PROBE_SETS = ['istio-inpod-probes-v4', 'istio-inpod-probes-v6'];
const PROBE_ADDRESSES = ['169.254.7.127', 'fd16:9254:7127:1337:ffff:ffff:ffff:ffff'];
const TCP_LISTEN = 10;

export interface NodeTraces {
  iptables: Pick<IptablesTrace, 'variant' | 'family'>[];
  nftables: {
    tables: Table[];
    /** chains with rules that base chains lead to: "inet istio-ambient-nat istio-postrouting" */
    ruled: string[];
  };
}

/** @throws CulvertError SYSTEM */
export function readNodeTraces(node: Netns): NodeTraces {
  const { nft, legacy } = chainsOf(node);
  return nodeTracesIn(nft, legacy);
}

export function nodeTracesIn(nft: readonly NftChain[], legacy: readonly string[]): NodeTraces {
  const names = nft.map(({ name }) => name);
  const { tables } = tracesIn(nft, legacy).nftables;
  return {
    iptables: ([4, 6] as const).flatMap((family) => [
      ...(legacy.includes(`${family} nat ISTIO_POSTRT`) ? [{ variant: 'legacy' as const, family }] : []),
      ...(names.includes(`${family === 4 ? 'ip' : 'ip6'} nat ISTIO_POSTRT`) ? [{ variant: 'nft' as const, family }] : []),
    ]),
    nftables: {
      tables,
      ruled: nft
        .filter(({ name, rules }) => rules > 0 && tables.some((table) => name.startsWith(`inet istio-ambient-${table} istio-`)))
        .map(({ name }) => name),
    },
  };
}

export function anyRules({ iptables, nftables }: NodeTraces): boolean {
  return iptables.length > 0 || nftables.ruled.length > 0;
}

/** Istio's rules in this netns let what comes from the probe address pass, and capture the rest. Those of a sidecar do not. */
export function expectsProbeAddress(netns: Netns): boolean {
  const { nft, legacy } = chainsOf(netns);
  return (
    legacy.some((chain) => /^[46] nat ISTIO_PRERT$/.test(chain)) ||
    nft.some(({ name, rules }) => /^ip6? nat ISTIO_PRERT$/.test(name) || (name === 'inet istio-ambient-nat istio-prerouting' && rules > 0))
  );
}

/** Probes under way whose address Istio's rule has translated, seen in the pod. */
export function openProbes(netns: Netns): number {
  const sockets: DiagSocket[] = netns.run({ op: 'sockets', mark: 0, mask: 0 });
  return sockets.filter(({ state, dst }) => state !== TCP_LISTEN && PROBE_ADDRESSES.includes(dst.replace(/^::ffff:(?=\d+\.)/, ''))).length;
}

function chainsOf(netns: Netns): { nft: NftChain[]; legacy: string[] } {
  const [nft, legacy] = netns.runAll([{ op: 'nft-chains' }, { op: 'xtables-chains' }]) as [NftChain[], string[]];
  return { nft, legacy };
}
