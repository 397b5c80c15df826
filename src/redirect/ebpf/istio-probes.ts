/**
 * Istio's probe addresses, 169.254.7.127 and fd16:9254:7127:1337:ffff:ffff:ffff:ffff: istio-cni gives them to the node's connections to
 * pods, and its pods let them pass. Beside istio-cni (while nodes are moved over) ours must do so, too; without it the addresses are
 * a way past the tunnel for everybody who can choose his source. What proves it is the rule in the node's netns that puts them there:
 * in iptables mode one that uses the ipset of probed pods, in nftables mode one that looks into the set of that name.
 */
import { enums } from '../../maps/index.ts';
import type { Netns } from '../../sys/netns.ts';

const RULES = [
  { table: 'istio-ambient-nat', v4: 'istio-inpod-probes-v4', v6: 'istio-inpod-probes-v6' },
  // our own drivers of rules: a pod that moves from or to them has both for a while, and its probes come by their rule
  { table: 'culvert-nat', v4: 'culvert-probes-v4', v6: 'culvert-probes-v6' },
] as const;

/**
 * @param node the node's netns
 * @returns enum istio_probes, by family
 * @throws CulvertError SYSTEM
 */
export function istioHostRule(node: Netns): number {
  const ruled = (family: 'v4' | 'v6'): boolean =>
    RULES.some(
      ({ table, [family]: set }) =>
        node.run({ op: 'nft-lookups', table }).includes(set) || node.run({ op: 'ipset-references', name: set }) > 0,
    );
  return (ruled('v4') ? enums.istio_probes.ISTIO_PROBES_V4 : 0) | (ruled('v6') ? enums.istio_probes.ISTIO_PROBES_V6 : 0);
}
