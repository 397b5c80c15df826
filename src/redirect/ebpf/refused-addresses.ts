/** Addresses that a netns has and the maps were not given: see writeAddresses of pod-entries.ts. */
import type { Maps } from '../../maps/index.ts';
import { MOST_ADDRESSES, type Written } from './pod-entries.ts';

/** One sentence per address of another pod, and one for all that are too many. */
export function refusedAddressWarnings(maps: Pick<Maps, 'identity'>, { refused }: Pick<Written, 'refused'>): string[] {
  const held = refused.flatMap(({ addr, holder }) => {
    if (holder === undefined) return [];
    const pod = maps.identity.get(holder);
    const name = pod === undefined ? `netns ${holder}` : `${pod.namespace}/${pod.name}`;
    return [`its network namespace has address ${addr} of pod ${name}, whose probes go on as before; take the address away`];
  });
  const many = refused.some(({ holder }) => holder === undefined);
  const sentence = `its network namespace has more than ${MOST_ADDRESSES} addresses: its own connections to the others take the tunnel`;
  return many ? [...held, sentence] : held;
}
