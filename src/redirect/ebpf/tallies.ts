/** What metrics want to know of the maps: counts of everything in one reading, and how full the maps are. */
import { countsOf, isSecondLook, reasonOf, type Maps, type TypedMap, type TypedMapName } from '../../maps/index.ts';
import { native } from '../../sys/native.ts';
import type { Occupancy, Tally } from '../driver.ts';

/** @param cookie of one netns; undefined: of all, by one dump */
export function talliesOf(maps: Pick<Maps, 'counters'>, cookie?: bigint): Tally[] {
  const counts =
    cookie === undefined
      ? maps.counters.entries().map(({ key, value }) => ({ ...key, count: Number(value) }))
      : [...countsOf(maps, cookie)].map(([reason, count]) => ({ cookie, reason, count }));
  return counts
    .filter(({ reason }) => !isSecondLook(reason))
    .map(({ cookie, reason: number, count }) => {
      const { direction, verdict, reason } = reasonOf(number);
      return { cookie, direction, verdict, reason, count };
    });
}

/** @param sizes entries each map has room for. The LRU maps are left out: they fill up and stay so, which means nothing. */
export function occupancyOf(maps: Maps, sizes: Record<string, number>): Occupancy[] {
  return limited(maps).map((map) => ({ map: map.name, entries: native.bpfMapDump(map.fd).length, maxEntries: sizes[map.name] ?? 0 }));
}

/** A full one of these refuses pods, listeners or counts. */
function limited(maps: Maps): Pick<TypedMap<TypedMapName>, 'name' | 'fd'>[] {
  return [
    maps.pods,
    maps.identity,
    maps.own,
    maps.podByAddr,
    maps.listeners,
    maps.generation,
    maps.counters,
    maps.tunnels,
    maps.nodeSources,
  ];
}
