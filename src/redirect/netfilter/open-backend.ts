/** What this node has of the programs that a kind needs. */
import { mkdirSync } from 'node:fs';
import type { Logger } from '../../base/log.ts';
import { Iptables } from '../iptables/backend.ts';
import { chooseVariant } from '../iptables/variant.ts';
import { openNftables } from '../nftables/backend.ts';
import type { Backend } from './backend.ts';
import { lastWords, run } from './command.ts';

export type NetfilterKind = Backend['kind'];

const MISSING = 127;

/** @returns why it cannot be used, one sentence each */
export async function openBackend(
  kind: NetfilterKind,
  nodeFd: number,
  stateDir: string,
  log: Logger,
): Promise<{ backend: Backend; reasons: string[] } | string[]> {
  mkdirSync(stateDir, { recursive: true, mode: 0o700 });
  if (kind === 'iptables') return openIptables(nodeFd, stateDir, log);
  const backend = await openNftables(nodeFd, log);
  return typeof backend === 'string' ? [backend] : { backend, reasons: [] };
}

async function openIptables(nodeFd: number, stateDir: string, log: Logger): Promise<{ backend: Backend; reasons: string[] } | string[]> {
  const node = { netnsFd: nodeFd };
  const [variant, ipset, nft] = await Promise.all([
    chooseVariant(node, log),
    run(node, ['ipset', 'list', '-n']),
    run(node, ['nft', '--version']),
  ]);
  const missing = [
    ...(Array.isArray(variant) ? variant : []),
    ...(ipset.code === MISSING ? ['ipset is not installed (package ipset)'] : ipset.code === 0 ? [] : [`ipset: ${lastWords(ipset)}`]),
  ];
  if (Array.isArray(variant) || missing.length > 0) return missing;
  const reasons: string[] = [];
  if (variant.programs[6] === undefined) reasons.push('ip6tables cannot be used here: the IPv6 of pods is not captured');
  if (nft.code !== 0 && !variant.legacy)
    reasons.push('nft is not installed (package nftables): empty tables that iptables made in a pod stay there after it has left');
  return { backend: new Iptables({ variant, nft: nft.code === 0, stateDir, log }), reasons };
}
