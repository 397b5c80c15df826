/** Kernel settings of the layout, in the lab's namespaces only, and back as they were. */
import { CulvertError } from '../../base/errors.ts';
import { Netns } from '../../sys/netns.ts';
import { inbound, link, outbound } from './plan.ts';
import type { Ends } from './routing.ts';
import { all, type Step } from './step.ts';

const conf = (device: string, name: string): string => `net/ipv4/conf/${device}/${name}`;

/**
 * Off for all: packets come in by one device under the address of another. Before our devices are made: they begin with `default`.
 * @param towardsPods the node's device that leads to the pods
 */
export function relaxed({ nodeNetns, tunnelNetns }: Pick<Ends, 'nodeNetns' | 'tunnelNetns'>, towardsPods: string): Step {
  const undo: (() => void)[] = [];
  const off = (netns: string, devices: string[]): void => {
    undo.unshift(
      change(
        netns,
        devices.map((device) => [conf(device, 'rp_filter'), '0']),
      ),
    );
  };
  return {
    apply: async () => {
      off(nodeNetns, ['all', 'default', towardsPods]);
      off(tunnelNetns, ['all', 'default']);
      return Promise.resolve();
    },
    // eslint-disable-next-line @typescript-eslint/require-await -- a step's way back is a promise
    revert: () => all(...undo.map((back) => async () => back())),
  };
}

/** For our own devices, with which they go. */
export function acceptLocal(nodeNetns: string): void {
  change(
    nodeNetns,
    [link.nodeDevice, inbound.device, outbound.device].map((device) => [conf(device, 'accept_local'), '1']),
  );
}

/** @throws CulvertError LAB when the node does not forward, which every node of a cluster does */
export function requireForwarding(nodeNetns: string): void {
  using netns = Netns.open(nodeNetns);
  if (netns.run({ op: 'sysctl-read', path: 'net/ipv4/ip_forward' }).trim() !== '1')
    throw new CulvertError('LAB', `set up geneve: net.ipv4.ip_forward is off in ${nodeNetns}`);
}

function change(path: string, values: [name: string, value: string][]): () => void {
  using netns = Netns.open(path);
  const before = values.map(([name]): [string, string] => [name, netns.run({ op: 'sysctl-read', path: name }).trim()]);
  netns.runAll(values.map(([name, value]) => ({ op: 'sysctl', path: name, value })));
  return () => {
    using again = Netns.open(path);
    again.runAll(before.map(([name, value]) => ({ op: 'sysctl', path: name, value })));
  };
}
