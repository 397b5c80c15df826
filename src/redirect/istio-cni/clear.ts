/** Takes Istio's chains out of a netns with the programs that put them there, each table in one transaction. */
import { demand, lastWords, run, type Place } from '../netfilter/command.ts';
import { CulvertError } from '../../base/errors.ts';
import { emptyTables, nftDelete, nftFlush, NFT_CAPTURE_OFF, restoreWithout } from './removal.ts';
import type { NodeTraces } from './node-traces.ts';
import type { IptablesTrace, Table, Traces } from './traces.ts';

/** A node may have others of Istio's, of a sidecar for itself. */
const NODE_CHAIN = /^ISTIO_POSTRT$/;

/** New connections are no longer Istio's; translated ones go on. @throws CulvertError SYSTEM */
export async function clearCapture(place: Place, traces: Traces): Promise<void> {
  if (traces.nftables.capturing) await nft(place, NFT_CAPTURE_OFF);
  for (const trace of traces.iptables) await clearIptables(place, trace, ['nat']);
}

/** The node's own: its connections to pods keep their address from now on, those under way stay translated. @throws CulvertError SYSTEM */
export async function clearNodeRules(place: Place, { iptables, nftables }: NodeTraces): Promise<void> {
  if (nftables.ruled.length > 0) await nft(place, nftFlush(nftables.ruled));
  for (const trace of iptables) await clearIptables(place, { ...trace, tables: ['nat'] }, ['nat'], NODE_CHAIN);
}

/** @throws CulvertError SYSTEM */
export async function deleteTables(place: Place, tables: readonly Table[]): Promise<void> {
  if (tables.length > 0) await nft(place, nftDelete(tables));
}

/** Everything else. Connections that are still translated end by it. @throws CulvertError SYSTEM */
export async function clearRest(place: Place, traces: Traces): Promise<void> {
  await deleteTables(place, traces.nftables.tables);
  for (const trace of traces.iptables) await clearIptables(place, trace, trace.tables);
}

/**
 * Tables of iptables-nft that nobody uses any more: with them goes the hook that makes conntrack look at every packet. (Tables of legacy
 * iptables stay for as long as the netns.)
 */
export async function dropEmptyTables(place: Place, families: readonly IptablesTrace['family'][]): Promise<void> {
  for (const family of families) {
    const saved = await save(place, { variant: 'nft', family });
    const empty = emptyTables(saved);
    if (empty.length > 0) await nft(place, empty.map((table) => `delete table ${family === 4 ? 'ip' : 'ip6'} ${table}\n`).join(''));
  }
}

async function clearIptables(place: Place, trace: IptablesTrace, tables: readonly Table[], chains?: RegExp): Promise<void> {
  const input = restoreWithout(await save(place, trace), tables, chains);
  if (input === '') return;
  const argv = [program(trace, 'restore'), '--noflush', '--wait', '10'];
  demand(argv, found(argv, await run(place, argv, input)));
}

async function save(place: Place, trace: Pick<IptablesTrace, 'variant' | 'family'>): Promise<string> {
  const argv = [program(trace, 'save')];
  return demand(argv, found(argv, await run(place, argv)));
}

async function nft(place: Place, input: string): Promise<void> {
  const argv = ['nft', '-f', '-'];
  demand(argv, found(argv, await run(place, argv, input)));
}

function program({ variant, family }: Pick<IptablesTrace, 'variant' | 'family'>, verb: 'save' | 'restore'): string {
  return `${family === 4 ? 'iptables' : 'ip6tables'}-${variant}-${verb}`;
}

/** 127: nsenter found no such program. */
function found<T extends { code: number; stdout: string; stderr: string }>([name = '']: readonly string[], result: T): T {
  if (result.code === 127)
    throw new CulvertError('SYSTEM', `run ${name}: it is not there: ${lastWords(result)}`, undefined, { retryable: false });
  return result;
}
