/** A pod's netns as istio-cni leaves it: route and rule by netlink, then its rules by one of the programs that it uses. */
import { execFileSync } from 'node:child_process';
import { restoreInput } from '../../src/bench/istio-cni.ts';
import type { TestPod } from './netns.ts';

export const ISTIO_VARIANTS = ['iptables-legacy', 'iptables-nft', 'nftables'] as const;
export type IstioVariant = (typeof ISTIO_VARIANTS)[number];

const NOT_TUNNEL = 'meta mark & 0xfff != 0x539';
/** Native nftables, dual stack, without DNS. */
const NATIVE = `
add table inet istio-ambient-nat
add table inet istio-ambient-mangle
add chain inet istio-ambient-nat prerouting { type nat hook prerouting priority -100; }
add chain inet istio-ambient-nat output { type nat hook output priority -100; }
add chain inet istio-ambient-nat istio-prerouting
add chain inet istio-ambient-nat istio-output
add chain inet istio-ambient-mangle prerouting { type filter hook prerouting priority -150; }
add chain inet istio-ambient-mangle output { type route hook output priority -150; }
add chain inet istio-ambient-mangle istio-prerouting
add chain inet istio-ambient-mangle istio-output
add rule inet istio-ambient-nat prerouting jump istio-prerouting
add rule inet istio-ambient-nat output jump istio-output
add rule inet istio-ambient-mangle prerouting jump istio-prerouting
add rule inet istio-ambient-mangle output jump istio-output
add rule inet istio-ambient-mangle istio-prerouting meta mark & 0xfff == 0x539 ct mark set ct mark & 0xfffff000 | 0x111
add rule inet istio-ambient-mangle istio-output ct mark & 0xfff == 0x111 meta mark set ct mark
add rule inet istio-ambient-nat istio-prerouting ip saddr 169.254.7.127 meta l4proto tcp accept
add rule inet istio-ambient-nat istio-prerouting ip6 saddr fd16:9254:7127:1337:ffff:ffff:ffff:ffff meta l4proto tcp accept
add rule inet istio-ambient-nat istio-prerouting ip daddr != 127.0.0.1 tcp dport != 15008 ${NOT_TUNNEL} redirect to :15006
add rule inet istio-ambient-nat istio-prerouting ip6 daddr != ::1 tcp dport != 15008 ${NOT_TUNNEL} redirect to :15006
add rule inet istio-ambient-nat istio-output ip daddr 169.254.7.127 meta l4proto tcp accept
add rule inet istio-ambient-nat istio-output ip6 daddr fd16:9254:7127:1337:ffff:ffff:ffff:ffff meta l4proto tcp accept
add rule inet istio-ambient-nat istio-output meta l4proto tcp meta mark & 0xfff == 0x111 accept
add rule inet istio-ambient-nat istio-output oifname lo ip daddr != 127.0.0.1 accept
add rule inet istio-ambient-nat istio-output oifname lo ip6 daddr != ::1 accept
add rule inet istio-ambient-nat istio-output ip daddr != 127.0.0.1 meta l4proto tcp ${NOT_TUNNEL} redirect to :15001
add rule inet istio-ambient-nat istio-output ip6 daddr != ::1 meta l4proto tcp ${NOT_TUNNEL} redirect to :15001
`;

export function applyIstioRules({ netnsName }: Pick<TestPod, 'netnsName'>, variant: IstioVariant): void {
  const inPod = (argv: string[], input = ''): void => {
    execFileSync('ip', ['netns', 'exec', netnsName, ...argv], { input, stdio: ['pipe', 'ignore', 'inherit'] });
  };
  for (const family of ['-4', '-6']) {
    const rules = execFileSync('ip', ['-n', netnsName, family, 'rule'], { encoding: 'utf8' });
    if (!rules.includes('32764:')) inPod(['ip', family, 'rule', 'add', 'fwmark', '0x111/0xfff', 'pref', '32764', 'table', '100']);
    inPod(['ip', family, 'route', 'replace', 'local', 'default', 'dev', 'lo', 'table', '100']);
  }
  if (variant === 'nftables') {
    inPod(['nft', '-f', '-'], NATIVE);
    return;
  }
  for (const family of [4, 6] as const)
    inPod(
      [`${family === 4 ? 'iptables' : 'ip6tables'}-${variant.slice('iptables-'.length)}-restore`, '--noflush'],
      restoreInput(family, true),
    );
}
