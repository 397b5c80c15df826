/** The node's network configuration list: the cluster's own plugins first, culvert-cni behind them, as on a real node. */
import { join } from 'node:path';
import type { PluginConfig } from '../../agent/api.ts';
import { nodeAddresses } from '../network/addresses.ts';
import type { NodePaths } from '../paths.ts';

export interface Conflist {
  cniVersion: string;
  name: string;
  plugins: ({ type: string } & Record<string, unknown>)[];
}

/** @param index of the node, from 1 */
export function conflistFor(node: NodePaths, index: number): Conflist {
  const addresses = nodeAddresses(index);
  const culvert: Omit<PluginConfig, 'statusPolicy'> = { runDir: node.runDir, stateDir: node.stateDir, onAgentDown: 'known' };
  return {
    cniVersion: '1.0.0',
    name: 'culvert-lab',
    plugins: [
      {
        type: 'bridge',
        bridge: 'cni0',
        isDefaultGateway: true,
        hairpinMode: true,
        ipam: {
          type: 'host-local',
          dataDir: join(node.cniDir, 'host-local'),
          ranges: [[{ subnet: addresses.podRange4 }], [{ subnet: addresses.podRange6 }]],
        },
      },
      { type: 'culvert-cni', ...culvert },
    ],
  };
}
