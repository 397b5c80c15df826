/** In which order the scenarios come: nobody is always measured first, or always behind the same neighbour's warm caches. */

/**
 * Rotated by one place from turn to turn, so that in as many turns as there are items each stands once at every place.
 * @param turn from 0
 */
export function rotated<T>(items: readonly T[], turn: number): T[] {
  const by = items.length === 0 ? 0 : turn % items.length;
  return [...items.slice(by), ...items.slice(0, by)];
}
