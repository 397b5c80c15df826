/**
 * What istio-cni put into the netns of a pod, seen without starting a program: chains ISTIO_PRERT and ISTIO_OUTPUT of iptables, legacy
 * or by nftables, or the nftables tables istio-ambient-nat, -mangle and -raw. Chains in `nat` capture; what else there is brings
 * packets of captured connections to where they belong, and captures nothing.
 */
import type { Netns } from '../../sys/netns.ts';
import type { NftChain } from '../../sys/native.ts';

export type Family = 4 | 6;
export type Table = 'nat' | 'mangle' | 'raw';
export const TABLES: readonly Table[] = ['nat', 'mangle', 'raw'];

/** The tables of one family that one variant of iptables has chains of Istio's in. */
export interface IptablesTrace {
  variant: 'legacy' | 'nft';
  family: Family;
  tables: Table[];
}

export interface Traces {
  iptables: IptablesTrace[];
  /** tables of family inet; `capturing`: rules are left in those of nat */
  nftables: { tables: Table[]; capturing: boolean };
}

/** @throws CulvertError SYSTEM */
export function readTraces(netns: Netns): Traces {
  const [nft, legacy] = netns.runAll([{ op: 'nft-chains' }, { op: 'xtables-chains' }]) as [NftChain[], string[]];
  return tracesIn(nft, legacy);
}

export function tracesIn(nft: readonly NftChain[], legacy: readonly string[]): Traces {
  const has = (chains: readonly string[], family: string, table: Table): boolean =>
    chains.some((chain) => chain.startsWith(`${family} ${table} ISTIO_`));
  const names = nft.map(({ name }) => name);
  const iptables = (['legacy', 'nft'] as const).flatMap((variant) =>
    ([4, 6] as const).map((family): IptablesTrace => {
      const tables = TABLES.filter((table) =>
        variant === 'legacy' ? has(legacy, String(family), table) : has(names, family === 4 ? 'ip' : 'ip6', table),
      );
      return { variant, family, tables };
    }),
  );
  const native = nft.filter(({ name }) => name.startsWith('inet istio-ambient-'));
  return {
    iptables: iptables.filter(({ tables }) => tables.length > 0),
    nftables: {
      tables: TABLES.filter((table) => native.some(({ name }) => name.startsWith(`inet istio-ambient-${table} `))),
      capturing: native.some(({ name, rules }) => name.startsWith('inet istio-ambient-nat istio-') && rules > 0),
    },
  };
}

export function captures({ iptables, nftables }: Traces): boolean {
  return nftables.capturing || iptables.some(({ tables }) => tables.includes('nat'));
}

export function isClean({ iptables, nftables }: Traces): boolean {
  return iptables.length === 0 && nftables.tables.length === 0;
}

/** "iptables-nft", "nftables" */
export function kindsOf({ iptables, nftables }: Traces): string[] {
  return [...new Set(iptables.map(({ variant }) => `iptables-${variant}`)), ...(nftables.tables.length > 0 ? ['nftables'] : [])];
}
