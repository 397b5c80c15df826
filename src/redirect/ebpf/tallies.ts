/** What metrics want to know of the maps: counts of everything, and how full the maps are. */
import { countsOf, isSecondLook, reasonOf, type Maps, type TypedMap, type TypedMapName } from '../../maps/index.ts';
import { native } from '../../sys/native.ts';
import type { Occupancy, Tally } from '../driver.ts';

type Count = Pick<Tally, 'cookie' | 'count'> & { number: number };

export function talliesOf(maps: Pick<Maps, 'counters'>, cookie: bigint): Tally[] {
  return tallied([...countsOf(maps, cookie)].map(([number, count]) => ({ cookie, number, count })));
}

/**
 * Each map by one dump, which is what a scrape costs.
 * @param sizes entries each map has room for. The LRU maps are left out: they fill up and stay so, which means nothing.
 */
export function readAll(maps: Maps, sizes: Record<string, number>): { tallies: Tally[]; maps: Occupancy[] } {
  const counts = maps.counters.entries().map(({ key, value }) => ({ cookie: key.cookie, number: key.reason, count: Number(value) }));
  const others = limited(maps).map((map) => ({ name: map.name, entries: native.bpfMapDump(map.fd).length }));
  return {
    tallies: tallied(counts),
    maps: [...others, { name: maps.counters.name, entries: counts.length }].map(({ name, entries }) => ({
      map: name,
      entries,
      maxEntries: sizes[name] ?? 0,
    })),
  };
}

function tallied(counts: Count[]): Tally[] {
  return counts
    .filter(({ number }) => !isSecondLook(number))
    .map(({ cookie, number, count }) => {
      const { direction, verdict, reason } = reasonOf(number);
      return { cookie, direction, verdict, reason, count };
    });
}

/** Beside the counters: a full one of these refuses pods or listeners. */
function limited(maps: Maps): Pick<TypedMap<TypedMapName>, 'name' | 'fd'>[] {
  return [maps.pods, maps.identity, maps.own, maps.podByAddr, maps.listeners, maps.generation, maps.tunnels];
}
