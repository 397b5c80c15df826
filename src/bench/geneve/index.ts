/**
 * The node-level redirect of Istio's ambient preview, for comparison: connections of enrolled pods are marked by the node's iptables,
 * led into a Geneve tunnel by policy routes, and taken by TPROXY in the namespace of the node's one tunnel. IPv4 only, as it was.
 * docs/geneve.md says what is genuine and what differs.
 */
import { CulvertError } from '../../base/errors.ts';
import { countersOf, type GeneveCounters } from './counters.ts';
import { pairs, probeDevice, type DeviceKind } from './device.ts';
import { nodeChains } from './node-rules.ts';
import { addressOf, enrolment, podSetStep } from './pods.ts';
import { nodeRouting, nodeTowards, refuseTaken, tunnelLink, tunnelRouting, type Ends } from './routing.ts';
import { chainsStep } from './ruleset.ts';
import { take } from './step.ts';
import { acceptLocal, relaxed, requireForwarding } from './sysctls.ts';
import { tunnelChains } from './tunnel-rules.ts';

export type { GeneveCounters } from './counters.ts';

export interface GeneveOptions {
  /** paths of namespaces: the lab's, never this machine's own */
  nodeNetns: string;
  tunnelNetns: string;
  /** of the pods to redirect from the start; at least one, all of this node */
  podNetns: readonly string[];
}

export interface Geneve {
  /** vxlan where the kernel has no Geneve: the same layout in another wrapper */
  device: DeviceKind;
  /** Puts one more pod in. @returns takes it out */
  enrol(podNetns: string): Promise<() => Promise<void>>;
  /** Connections so far that came out of the pairs and were given to a listener (their first packets: a repeated SYN counts again). */
  redirected(): Promise<number>;
  counters(): Promise<GeneveCounters>;
  /** Everything as it was before; again is nothing. @throws the first refusal, after all was tried */
  close(): Promise<void>;
}

/**
 * The listeners in the tunnel's namespace (15001, 15006, 15008) are the caller's: transparent, on 127.0.0.1 or any address.
 * @throws CulvertError LAB for namespaces that do not suit; KERNEL_UNSUPPORTED. Nothing is left then
 */
export async function setUpGeneve({ nodeNetns, tunnelNetns, podNetns }: GeneveOptions): Promise<Geneve> {
  const [first] = podNetns;
  if (first === undefined) throw new CulvertError('LAB', 'set up geneve: podNetns names no pod');
  const undo = new AsyncDisposableStack();
  try {
    requireForwarding(nodeNetns);
    await refuseTaken({ nodeNetns, tunnelNetns });
    const towards = await nodeTowards(nodeNetns, await addressOf(first));
    const ends: Ends = { nodeNetns, tunnelNetns, nodeAddress: towards.address };
    const device = await probeDevice(nodeNetns);
    await take(undo, relaxed(ends, towards.device));
    await take(undo, tunnelLink(ends));
    await take(undo, pairs(device, ends));
    acceptLocal(nodeNetns);
    await take(undo, podSetStep(nodeNetns));
    await take(undo, chainsStep(nodeNetns, nodeChains(ends.nodeAddress)));
    await take(undo, chainsStep(tunnelNetns, tunnelChains()));
    await take(undo, tunnelRouting(ends));
    await take(undo, nodeRouting(ends));
    const join = async (netns: string): Promise<() => Promise<void>> => {
      const address = await addressOf(netns);
      await nodeTowards(nodeNetns, address);
      const own = undo.use(new AsyncDisposableStack());
      await take(own, enrolment(nodeNetns, ends.nodeAddress, { netns, address }));
      return () => own.disposeAsync();
    };
    for (const netns of podNetns) await join(netns);
    const counters = (): Promise<GeneveCounters> => countersOf(nodeNetns, tunnelNetns, tunnelChains());
    return {
      device,
      enrol: join,
      counters,
      redirected: async () => Object.values((await counters()).redirected).reduce((sum, n) => sum + n, 0),
      close: () => closed(undo),
    };
  } catch (error) {
    await undo.disposeAsync();
    throw error;
  }
}

/** Several refusals arrive nested, the last one outside. */
async function closed(undo: AsyncDisposableStack): Promise<void> {
  try {
    await undo.disposeAsync();
  } catch (error) {
    let first: unknown = error;
    while (first instanceof SuppressedError) first = first.suppressed;
    throw first;
  }
}
