/** Finding the netns of pods that the plugin did not announce to this agent, made of the agent's parts. */
import type { Logger } from '../base/log.ts';
import { ProcDiscovery, type Discovery } from '../enrol/discovery.ts';
import type { OpenNetns } from '../enrol/netns.ts';
import { CONFIG_HASH_ANNOTATION } from '../sources/source.ts';
import { Netns } from '../sys/netns.ts';
import type { Attachments } from './attachments.ts';
import type { AgentConfig } from './config.ts';

export interface DiscoveryParts {
  config: Pick<AgentConfig, 'procRoot' | 'nodeNetns'>;
  attachments: Attachments;
  openNetns: OpenNetns;
  log: Logger;
}

export function discoveryOf({ config, attachments, openNetns, log }: DiscoveryParts): Discovery {
  return new ProcDiscovery({
    procRoot: config.procRoot,
    nodeNetns: config.nodeNetns,
    announced: ({ uid, annotations }) => {
      const uids = [uid, annotations[CONFIG_HASH_ANNOTATION] ?? uid];
      return [...new Set(attachments.ofPod(uids).map(({ netns }) => netns))];
    },
    openNetns,
    // not closed: the fd is the caller's
    addressesOf: (netnsFd) =>
      Netns.adopt(netnsFd)
        .run({ op: 'addresses' })
        .map(({ address }) => address),
    log,
  });
}
