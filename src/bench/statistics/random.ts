/** Numbers that look random and are the same ones every time: the resampling of a report can be repeated by anybody. */

/** @returns a source of numbers in [0, 1); mulberry32 (Tommy Ettinger, public domain), a period of 2^32 */
export function seeded(seed: number): () => number {
  let state = seed | 0;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
