/** Everything that rules could leave in a netns, as text without counters: for comparing before with after. */
import { execFileSync } from 'node:child_process';

const SCRIPT = [
  'iptables-nft-save',
  'ip6tables-nft-save',
  'nft -s list ruleset',
  'ip rule',
  'ip -6 rule',
  'ip route show table 100',
  'ip -6 route show table 100',
  'ipset list -n',
].join('; ');

/** @param netnsName for `ip netns exec` */
export function netnsState(netnsName: string): string {
  return inNetns(netnsName, `{ ${SCRIPT}; } 2>/dev/null | grep -v '^#' || :`);
}

export function inNetns(netnsName: string, script: string): string {
  return execFileSync('ip', ['netns', 'exec', netnsName, 'sh', '-c', script], { encoding: 'utf8' });
}
