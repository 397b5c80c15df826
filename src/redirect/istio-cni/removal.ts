/** The input of iptables-restore and nft that takes Istio's chains out of a netns: pure, one transaction per table. */
import type { Table } from './traces.ts';

/**
 * @param saved text of iptables-save; other tables and other people's rules may be in it
 * @param tables what is to go; a table in which Istio has nothing is not named
 * @param whose names of the chains that are to go
 * @returns input for iptables-restore --noflush; empty when there is nothing to do
 */
export function restoreWithout(saved: string, tables: readonly Table[], whose = /^ISTIO_/): string {
  return sectionsOf(saved)
    .filter(({ table }) => tables.some((wanted) => wanted === table))
    .map(({ table, lines }) => {
      const chains = lines.flatMap((line) => /^:(\S+) /.exec(line)?.[1] ?? []).filter((chain) => whose.test(chain));
      if (chains.length === 0) return '';
      const jumps = lines.filter(
        (line) => !chains.some((chain) => line.startsWith(`-A ${chain} `)) && chains.some((chain) => line.endsWith(` -j ${chain}`)),
      );
      const commands = [
        ...jumps.map((line) => line.replace(/^-A /, '-D ')),
        ...chains.map((chain) => `-F ${chain}`),
        ...chains.map((chain) => `-X ${chain}`),
      ];
      return [`*${table}`, ...commands, 'COMMIT', ''].join('\n');
    })
    .join('');
}

/** Tables in which nobody has a rule or a chain of his own, and no chain a policy: they are as iptables-nft makes them. */
export function emptyTables(saved: string): string[] {
  return sectionsOf(saved)
    .filter(({ lines }) => lines.every((line) => /^:[A-Z]+ ACCEPT /.test(line)))
    .map(({ table }) => table);
}

function sectionsOf(saved: string): { table: string; lines: string[] }[] {
  const sections: { table: string; lines: string[] }[] = [];
  for (const line of saved.split('\n')) {
    if (line.startsWith('*')) sections.push({ table: line.slice(1), lines: [] });
    else if (line.startsWith(':') || line.startsWith('-A ')) sections.at(-1)?.lines.push(line);
  }
  return sections;
}

/** Native nftables: capture off. Base chains stay, without which the kernel would end the translation of open connections. */
export const NFT_CAPTURE_OFF = ['istio-prerouting', 'istio-output']
  .map((chain) => `flush chain inet istio-ambient-nat ${chain}\n`)
  .join('');

/** @param chains "inet istio-ambient-nat istio-postrouting" */
export function nftFlush(chains: readonly string[]): string {
  return chains.map((chain) => `flush chain ${chain}\n`).join('');
}

export function nftDelete(tables: readonly Table[]): string {
  return tables.map((table) => `delete table inet istio-ambient-${table}\n`).join('');
}
