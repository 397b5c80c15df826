/** The encapsulating devices between node and tunnel: Geneve, or VXLAN in its place on a kernel without. */
import { CulvertError } from '../../base/errors.ts';
import { attempt } from '../../lab/command.ts';
import { inNetns, ipBatch } from '../../lab/network/netns.ts';
import { encapsulationBytes, inbound, link, outbound, pairPrefix, tunnelUdpPort } from './plan.ts';
import { all, ipEach, type Step } from './step.ts';
import type { Ends } from './routing.ts';

export type DeviceKind = 'geneve' | 'vxlan';

const PROBE = 'gnv-probe';
/** Documentation's address: nothing is ever sent to it. */
const NOWHERE = '192.0.2.1';

/** Which kind the kernel can make, found by making one. @throws CulvertError KERNEL_UNSUPPORTED for neither; LAB for any other refusal */
export async function probeDevice(netns: string): Promise<DeviceKind> {
  for (const kind of ['geneve', 'vxlan'] as const) {
    const { code, stderr } = await attempt(inNetns(netns, ['ip', ...added(kind, PROBE, 1, NOWHERE).split(' ')]));
    if (code === 0) {
      await ipBatch(netns, [`link delete ${PROBE}`]);
      return kind;
    }
    // EOPNOTSUPP in rtnetlink's short form and with an extended acknowledgement
    if (!/not supported|unknown device type/i.test(stderr))
      throw new CulvertError('LAB', `create ${kind} device in ${netns}: ${stderr.trim()}`);
  }
  throw new CulvertError('KERNEL_UNSUPPORTED', 'create geneve device: this kernel has neither Geneve nor VXLAN');
}

/** Both pairs, up, with their addresses. */
export function pairs(kind: DeviceKind, { nodeNetns, tunnelNetns, nodeAddress }: Ends): Step {
  const up = (device: string, address: string, vni: number, remote: string): string[] => [
    added(kind, device, vni, remote),
    `address add ${address}/${pairPrefix} dev ${device}`,
    `link set ${device} up`,
  ];
  const both = [inbound, outbound];
  return {
    apply: async () => {
      await ipBatch(
        nodeNetns,
        both.flatMap((pair) => up(pair.device, pair.address, pair.vni, link.address)),
      );
      await ipBatch(
        tunnelNetns,
        both.flatMap((pair) => up(pair.peerDevice, pair.peerAddress, pair.vni, nodeAddress)),
      );
    },
    revert: () =>
      all(
        () =>
          ipEach(
            tunnelNetns,
            both.map(({ peerDevice }) => `link delete ${peerDevice}`),
          ),
        () =>
          ipEach(
            nodeNetns,
            both.map(({ device }) => `link delete ${device}`),
          ),
      ),
  };
}

function added(kind: DeviceKind, device: string, vni: number, remote: string): string {
  const size = `mtu ${link.mtu - encapsulationBytes}`;
  return `link add ${device} ${size} type ${kind} id ${vni} remote ${remote} dstport ${tunnelUdpPort}${kind === 'vxlan' ? ' nolearning' : ''}`;
}
