/** What the pinned maps alone tell, while no agent answers. */
import type { PodStatus } from '../agent/api.ts';
import { CulvertError, isSystem } from '../base/errors.ts';
import { countersOf, dumpMaps, openPinnedMaps, podState, type MapDump, type Maps } from '../maps/index.ts';
import type { DatapathState } from '../redirect/driver.ts';
import type { Target } from './targets.ts';

export type NodeMap = { node: string } & MapDump;

/** Also the way of the agent's own `maps`: the kernel is the truth. @throws CulvertError AGENT_UNREACHABLE when there are no pins */
export function mapsFromPins(target: Target, only?: string): NodeMap[] {
  return withPins(target, (maps) => dumpMaps(maps, only).map((dump) => ({ node: target.node ?? '', ...dump })));
}

export function podsFromPins(target: Target): PodStatus[] {
  return withPins(target, (maps) => {
    const identities = new Map(maps.identity.entries().map(({ key, value }) => [key, value]));
    const addresses = Map.groupBy(maps.podByAddr.entries(), ({ value }) => value);
    return maps.pods.entries().map(({ key: cookie, value }): PodStatus => {
      const identity = identities.get(cookie);
      const datapath = stateName(value.state);
      return {
        uid: identity?.uid ?? '',
        namespace: identity?.namespace ?? '',
        name: identity?.name ?? '',
        node: target.node ?? '',
        ips: (addresses.get(cookie) ?? []).map(({ key }) => key).sort(),
        netnsCookie: String(cookie),
        state: datapath === 'active' ? 'enrolled' : 'pending',
        datapath,
        reason: 'read from the pinned maps: the agent is not reachable',
        driver: 'ebpf',
        since: '',
        counters: countersOf(maps, cookie),
      };
    });
  });
}

function stateName(state: number): DatapathState {
  const found = Object.entries(podState).find(([, number]) => number === state);
  return found === undefined ? 'none' : (found[0].replace('POD_', '').toLowerCase() as DatapathState);
}

function withPins<T>(target: Target, read: (maps: Maps) => T): T {
  const dir = `${target.pinDir}/maps`;
  let maps: Maps;
  try {
    maps = openPinnedMaps(dir);
  } catch (error) {
    if (isSystem(error, 'ENOENT'))
      throw new CulvertError('AGENT_UNREACHABLE', `read pinned maps: there are none in ${dir}, so no agent has run here`, error);
    throw error;
  }
  try {
    return read(maps);
  } finally {
    maps.close();
  }
}
