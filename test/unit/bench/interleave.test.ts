/** The order of scenarios inside the rounds is fair. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { rotated } from '../../../src/bench/interleave.ts';

const items = fc.uniqueArray(fc.string(), { minLength: 1, maxLength: 8 });

test('in as many turns as there are items, each stands once at every place', () => {
  fc.assert(
    fc.property(items, fc.nat(1000), (names, start) => {
      const turns = names.map((_, i) => rotated(names, start + i));
      for (let place = 0; place < names.length; place += 1) expect(new Set(turns.map((turn) => turn[place]))).toEqual(new Set(names));
    }),
  );
});

test('in any number of turns, how often one stands at a place differs by one at most', () => {
  fc.assert(
    fc.property(items, fc.integer({ min: 1, max: 40 }), (names, rounds) => {
      const turns = Array.from({ length: rounds }, (_, turn) => rotated(names, turn));
      for (const name of names) {
        const counts = names.map((_, place) => turns.filter((turn) => turn[place] === name).length);
        expect(Math.max(...counts) - Math.min(...counts)).toBeLessThanOrEqual(1);
      }
    }),
  );
});

test('nothing is nothing', () => {
  expect(rotated([], 3)).toEqual([]);
});
