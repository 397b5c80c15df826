/** Rules as iptables writes them, in the form in which iptables-save of 1.8 gives them back. Pure. */
import { wire } from '../../maps/layout.ts';
import type { Action, Chain, Family, Hook, Jump, Match, Rule } from '../netfilter/rules.ts';

export const CHAIN: Readonly<Record<Chain, string>> = {
  prerouting: 'CULVERT_PRERT',
  output: 'CULVERT_OUTPUT',
  postrouting: 'CULVERT_POSTRT',
  count: 'CULVERT_COUNT',
};
export const BASE: Readonly<Record<Hook, string>> = { prerouting: 'PREROUTING', output: 'OUTPUT', postrouting: 'POSTROUTING' };
/** Every chain of ours, the guard's too. */
export const OURS = 'CULVERT_';
export const GUARD = 'CULVERT_GUARD';

/** "! -d 127.0.0.1/32 -o lo -j ACCEPT" */
export function specOf({ match, action }: Rule, family: Family): string {
  return [...matchOf(match, family), ...actionOf(action)].join(' ');
}

export function jumpOf({ from, to }: Jump): string {
  return `${BASE[from]} -j ${CHAIN[to]}`;
}

function matchOf(m: Match, family: Family): string[] {
  const not = (is: boolean): string => (is ? '! ' : '');
  const bits = family === 4 ? 32 : 128;
  const words: string[] = [];
  if (m.source !== undefined) words.push(`-s ${m.source}/${bits}`);
  if (m.destination !== undefined) words.push(`${not(m.destination.not)}-d ${m.destination.address}/${bits}`);
  if (m.in !== undefined) words.push(`-i ${m.in}`);
  if (m.out !== undefined) words.push(`${not(m.out.not)}-o ${m.out.name}`);
  if (m.protocol !== undefined) words.push(`-p ${m.protocol}`);
  if (m.localTo !== undefined) words.push('-m owner --socket-exists', `-m set --match-set ${m.localTo} dst`);
  if (m.protocol !== undefined && (m.sport !== undefined || m.dport !== undefined)) words.push(`-m ${m.protocol}`);
  if (m.sport !== undefined) words.push(`--sport ${m.sport}`);
  if (m.dport !== undefined) words.push(`${not(m.dport.not)}--dport ${m.dport.port}`);
  if (m.mark !== undefined) words.push(`-m mark ${not(m.mark.not)}--mark ${masked(m.mark.value)}`);
  if (m.connmark !== undefined) words.push(`-m connmark --mark ${masked(m.connmark)}`);
  return words;
}

function actionOf(action: Action): string[] {
  switch (action.do) {
    case 'accept':
      return ['-j ACCEPT'];
    case 'return':
      return ['-j RETURN'];
    case 'count':
      return [];
    case 'save-mark':
      return [`-j CONNMARK --set-xmark ${masked(wire.MARK_LOCAL)}`];
    case 'restore-mark':
      return ['-j CONNMARK --restore-mark --nfmask 0xffffffff --ctmask 0xffffffff'];
    case 'redirect':
      return [`-j REDIRECT --to-ports ${action.port}`];
    case 'zone':
      return [`-j CT --zone ${action.zone}`];
    case 'snat':
      return [`-j SNAT --to-source ${action.address}`];
  }
}

function masked(mark: number): string {
  return `0x${mark.toString(16)}/0x${wire.MARK_MASK.toString(16)}`;
}
