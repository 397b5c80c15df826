/** State from a control plane over xDS: istiod, or our own control. */
import type { Logger } from '../../base/log.ts';
import { ControlPlaneChannel, type ControlPlaneOptions } from '../../rpc/channel.ts';
import type { StateFeed } from '../feed.ts';
import { Demands } from './demands.ts';
import { Follower, type XdsStats } from './follower.ts';
import { nodeMessage, type NodeIdentity } from './node.ts';

export interface XdsFeedOptions {
  controlPlane: ControlPlaneOptions;
  node: NodeIdentity;
  /** this node's; empty: the default network */
  network: string;
  /** addresses are asked for one by one (XDS_ON_DEMAND); policies come all the same */
  onDemand: boolean;
  logger: Logger;
}

export interface XdsFeed extends StateFeed {
  stats(): XdsStats;
}

/** @throws CONFIG_INVALID for an address or header that can never work */
export function createXdsFeed({ controlPlane, node, network, onDemand, logger }: XdsFeedOptions): XdsFeed {
  const channel = new ControlPlaneChannel(controlPlane, logger);
  const stats: XdsStats = { responses: 0, bytes: 0, acks: 0, nacks: 0, reconnects: 0 };
  let follower: Follower | undefined;
  const demands = onDemand ? new Demands(network, (change) => follower?.subscribe(change)) : undefined;
  return {
    kind: 'xds',
    stats: () => ({ ...stats }),
    start: (store, events) => {
      const started = new Follower({ channel, node: nodeMessage(node), network, demands, stats, log: logger, store, events });
      follower = started;
      void started.run();
      return {
        close: () => {
          started.close();
          demands?.close();
          channel.close();
        },
      };
    },
    ...(demands === undefined ? {} : { demand: (ip: string) => demands.demand(ip) }),
  };
}
