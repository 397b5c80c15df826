/** Everything about one netns that the datapath cannot serve as it should, one sentence each with its remedy. */
import type { Maps } from '../../maps/index.ts';
import type { Netns } from '../../sys/netns.ts';
import { markedListeners } from './app-marks.ts';
import { routingWarnings } from './foreign-routing.ts';
import { forwardingWarnings } from './forwarding.ts';
import type { Written } from './pod-entries.ts';
import { refusedAddressWarnings } from './refused-addresses.ts';
import { squatterWarnings } from './squatters.ts';
import { transparencyWarnings } from './transparency.ts';

/** @throws CulvertError SYSTEM when the netns cannot be read */
export function podWarnings(maps: Maps, cookie: bigint, netns: Netns, written: Written): string[] {
  return [
    ...markedListeners(netns),
    ...transparencyWarnings({ cookie, netns, written }),
    ...squatterWarnings(maps, cookie, netns),
    ...routingWarnings(netns),
    ...forwardingWarnings(netns),
    ...refusedAddressWarnings(maps, written),
  ];
}
