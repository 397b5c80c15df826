/** Which pods are redirected: their addresses in the node's set, a route to each through the inbound pair. */
import { CulvertError, isCulvert } from '../../base/errors.ts';
import { attempt, must } from '../../lab/command.ts';
import { inNetns, ipBatch } from '../../lab/network/netns.ts';
import { Netns } from '../../sys/netns.ts';
import { inbound, podSet, tables } from './plan.ts';
import { all, ipEach, type Step } from './step.ts';

export interface PodOnNode {
  netns: string;
  address: string;
}

/** of `ip -json route` */
interface OnLink {
  dst: string;
  dev: string;
  prefsrc?: string;
  gateway?: string;
}

export function podSetStep(nodeNetns: string): Step {
  let ours = false;
  return {
    apply: async () => {
      await ipset(nodeNetns, 'create', podSet, 'hash:ip', 'family', 'inet', 'comment');
      ours = true;
    },
    revert: async () => {
      if (ours) await ipset(nodeNetns, 'destroy', podSet);
    },
  };
}

/** @param nodeAddress as the layout has it */
export function enrolment(nodeNetns: string, nodeAddress: string, pod: PodOnNode): Step {
  const route = `${pod.address}/32 via ${inbound.peerAddress} dev ${inbound.device} table ${tables.inbound} src ${nodeAddress}`;
  let inPod: string[] = [];
  return {
    apply: async () => {
      inPod = await routesThroughNode(pod.netns);
      await ipBatch(
        pod.netns,
        inPod.map((added) => `route add ${added}`),
      );
      await ipset(nodeNetns, 'add', podSet, pod.address);
      await ipBatch(nodeNetns, [`route add ${route}`]);
    },
    revert: () =>
      all(
        () => ipEach(nodeNetns, [`route delete ${route}`]),
        () => ipset(nodeNetns, 'del', podSet, pod.address),
        async () => {
          if (stillThere(pod.netns))
            await ipEach(
              pod.netns,
              inPod.toReversed().map((added) => `route delete ${added}`),
            );
        },
      ),
  };
}

async function ipset(netns: string, ...args: string[]): Promise<void> {
  await must(inNetns(netns, ['ipset', ...args]));
}

/** A pod that was deleted took its routes with it. */
function stillThere(netns: string): boolean {
  try {
    Netns.open(netns).close();
    return true;
  } catch (error) {
    if (isCulvert(error, 'NETNS_GONE')) return false;
    throw error;
  }
}

/** The pod's own IPv4 address: where its default route starts. @throws CulvertError LAB for a namespace that is no pod's */
export async function addressOf(netns: string): Promise<string> {
  const { code, stdout, stderr } = await attempt(inNetns(netns, ['ip', '-json', '-4', 'route', 'get', '192.0.2.1']));
  const [route] = code === 0 ? (JSON.parse(stdout) as { prefsrc?: string }[]) : [];
  if (route?.prefsrc === undefined)
    throw new CulvertError('LAB', `find the address of the pod in ${netns}: ${stderr.trim() || 'its default route has none'}`);
  return route.prefsrc;
}

/**
 * The layout knows point-to-point pod networks only. On a bridge, pods of one node would speak to each other past the node's routing:
 * two routes, each to one half of the bridge's network, lead through the node instead.
 */
async function routesThroughNode(netns: string): Promise<string[]> {
  const routes = JSON.parse(await must(inNetns(netns, ['ip', '-json', '-4', 'route', 'show']))) as OnLink[];
  const gateway = routes.find(({ dst }) => dst === 'default')?.gateway;
  if (gateway === undefined) return [];
  return routes
    .filter((route) => route.gateway === undefined && halves(route.dst).length > 0)
    .flatMap(({ dst, dev, prefsrc }) => {
      const source = prefsrc === undefined ? '' : ` src ${prefsrc}`;
      return [`${gateway}/32 dev ${dev} scope link${source}`, ...halves(dst).map((half) => `${half} via ${gateway} dev ${dev}${source}`)];
    });
}

/** "10.244.1.0/24" → ["10.244.1.0/25", "10.244.1.128/25"]; none for a single address, which has no neighbours. */
export function halves(network: string): string[] {
  const [address = '', length = '32'] = network.split('/');
  const bits = Number(length);
  if (bits >= 31) return [];
  const number = address.split('.').reduce((sum, byte) => sum * 256 + Number(byte), 0);
  return [number, number + 2 ** (31 - bits)].map(
    (start) => `${[24, 16, 8, 0].map((shift) => (start >>> shift) & 255).join('.')}/${bits + 1}`,
  );
}
