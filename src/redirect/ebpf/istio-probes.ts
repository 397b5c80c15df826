/**
 * Istio's probe addresses, 169.254.7.127 and fd16:9254:7127:1337:ffff:ffff:ffff:ffff: istio-cni gives them to the node's connections to
 * pods, and its pods let them pass. Beside istio-cni (while nodes are moved over) ours must do so, too; without it the addresses are
 * a way past the tunnel for everybody who can choose his source. What proves it is the rule in the node's netns that puts them there:
 * in iptables mode one that uses the ipset of probed pods, in nftables mode one that looks into the set of that name.
 */
import { enums } from '../../maps/index.ts';
import type { Netns } from '../../sys/netns.ts';

const SET_V4 = 'istio-inpod-probes-v4';
const SET_V6 = 'istio-inpod-probes-v6';
const TABLE = 'istio-ambient-nat';

/**
 * @param node the node's netns
 * @returns enum istio_probes, by family
 * @throws CulvertError SYSTEM
 */
export function istioHostRule(node: Netns): number {
  const lookups = node.run({ op: 'nft-lookups', table: TABLE });
  const ruled = (set: string): boolean => lookups.includes(set) || node.run({ op: 'ipset-references', name: set }) > 0;
  return (ruled(SET_V4) ? enums.istio_probes.ISTIO_PROBES_V4 : 0) | (ruled(SET_V6) ? enums.istio_probes.ISTIO_PROBES_V6 : 0);
}
