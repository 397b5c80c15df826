/** The order of scenarios inside the rounds is fair. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { balanced } from '../../../src/bench/interleave.ts';

const items = fc.uniqueArray(fc.string(), { minLength: 1, maxLength: 8 });

test('in as many turns as there are items, each stands once at every place', () => {
  fc.assert(
    fc.property(items, fc.nat(100), (names, block) => {
      const turns = names.map((_, i) => balanced(names, block * names.length + i));
      for (let place = 0; place < names.length; place += 1) expect(new Set(turns.map((turn) => turn[place]))).toEqual(new Set(names));
    }),
  );
});

test('in any number of turns, how often one stands at a place differs by one at most', () => {
  fc.assert(
    fc.property(items, fc.integer({ min: 1, max: 40 }), (names, rounds) => {
      const turns = Array.from({ length: rounds }, (_, turn) => balanced(names, turn));
      for (const name of names) {
        const counts = names.map((_, place) => turns.filter((turn) => turn[place] === name).length);
        expect(Math.max(...counts) - Math.min(...counts)).toBeLessThanOrEqual(1);
      }
    }),
  );
});

test('each follows every other one equally often', () => {
  fc.assert(
    fc.property(items, (names) => {
      const rounds = names.length * (names.length % 2 === 0 ? 1 : 2);
      const behind = Array.from({ length: rounds }, (_, turn) => balanced(names, turn)).flatMap((turn) =>
        turn.slice(1).map((name, i) => JSON.stringify([turn[i], name])),
      );
      const times = [...Map.groupBy(behind, (pair) => pair).values()].map((of) => of.length);
      expect(times).toEqual(Array.from({ length: names.length * (names.length - 1) }, () => rounds / names.length));
    }),
  );
});

test('nothing is nothing', () => {
  expect(balanced([], 3)).toEqual([]);
});
