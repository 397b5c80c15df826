/**
 * In which order the scenarios come: nobody is always measured first, and nobody always behind the same one, whose leftovers (the
 * tunnel's memory to collect, connections to forget) are cleared away in the next one's time.
 */

/**
 * Williams' design: in any block of as many turns as there are items, from the first on, each stands once at every place; and in that
 * many turns, or in twice as many for an odd number of items, each follows every other one equally often.
 * @param turn from 0
 */
export function balanced<T>(items: readonly T[], turn: number): T[] {
  const { length } = items;
  if (length === 0) return [];
  const places = zigzag(length);
  const backwards = length % 2 === 1 && Math.floor(turn / length) % 2 === 1;
  return (backwards ? places.toReversed() : places).map((place) => items[(place + turn) % length] as T);
}

/** 0, 1, n-1, 2, n-2, …: all distances between neighbours differ, but for an odd n, where each comes twice. */
function zigzag(length: number): number[] {
  return Array.from({ length }, (_, i) => (i % 2 === 1 ? (i + 1) / 2 : (length - i / 2) % length));
}
