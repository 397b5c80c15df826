/**
 * A pod that forwards packets: for containers or virtual machines in network namespaces of its own making, or as a router. What is
 * forwarded has no socket in the pod's netns that connects, so connect hooks do not see it, and what the pod's own netfilter turns
 * elsewhere never looks for a listener.
 */
import type { Netns } from '../../sys/netns.ts';

const SENTENCE =
  'its network namespace forwards packets (containers or a virtual machine inside the pod, or a router): what is forwarded passes the ' +
  'tunnel by, in both directions; annotate the pod with culvert.dev/redirect-driver=iptables and name the devices that lead inside in ' +
  'istio.io/reroute-virtual-interfaces, or leave it out of the mesh with label istio.io/dataplane-mode=none';

/** One sentence, from the first packet on that was forwarded: the kernel counts them. @throws CulvertError SYSTEM when the netns cannot be read */
export function forwardingWarnings(netns: Netns): string[] {
  return netns.run({ op: 'forwarded' }) > 0 ? [SENTENCE] : [];
}
