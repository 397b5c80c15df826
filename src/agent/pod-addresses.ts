/** What addresses a netns has for others to reach it: for an ADD that comes behind no other plugin's result. */
import { isOfPod } from '../redirect/ebpf/netns-settings.ts';
import { Netns } from '../sys/netns.ts';

/** @throws CulvertError NETNS_GONE, SYSTEM */
export function podAddresses(path: string): string[] {
  using netns = Netns.open(path);
  return netns
    .run({ op: 'addresses' })
    .filter(isOfPod)
    .map(({ address }) => address);
}
