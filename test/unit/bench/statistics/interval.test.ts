import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { medianInterval } from '../../../../src/bench/statistics/interval.ts';

const values = fc.array(fc.double({ min: 0.001, max: 1e9, noNaN: true }), { minLength: 1, maxLength: 24 });
/** Each case draws ten thousand times. */
const runs = { numRuns: 40 };

describe('medianInterval', () => {
  it('keeps the median between least and greatest, and inside its interval', () => {
    fc.assert(
      fc.property(values, (of) => {
        const { median, low, high } = medianInterval(of);
        expect(Math.min(...of)).toBeLessThanOrEqual(low);
        expect(low).toBeLessThanOrEqual(median);
        expect(median).toBeLessThanOrEqual(high);
        expect(high).toBeLessThanOrEqual(Math.max(...of));
      }),
      runs,
    );
  });

  it('has half of the values on each side of the median', () => {
    fc.assert(
      fc.property(values, (of) => {
        const { median } = medianInterval(of);
        const half = of.length / 2;
        expect(of.filter((value) => value <= median).length).toBeGreaterThanOrEqual(half);
        expect(of.filter((value) => value >= median).length).toBeGreaterThanOrEqual(half);
      }),
      runs,
    );
  });

  it('does not depend on the order of the rounds, and is the same every time', () => {
    const shuffled = values.chain((of) => fc.tuple(fc.constant(of), fc.shuffledSubarray(of, { minLength: of.length })));
    fc.assert(
      fc.property(shuffled, ([one, other]) => {
        expect(medianInterval(other)).toEqual(medianInterval(one));
      }),
      runs,
    );
  });

  it('scales with its values', () => {
    fc.assert(
      fc.property(values, fc.double({ min: 0.01, max: 1000, noNaN: true }), (of, factor) => {
        const plain = medianInterval(of);
        const scaled = medianInterval(of.map((value) => value * factor));
        for (const part of ['median', 'low', 'high'] as const) {
          expect(scaled[part] / (plain[part] * factor)).toBeCloseTo(1, 9);
        }
      }),
      runs,
    );
  });

  it('is the whole range in five rounds and narrower in more', () => {
    expect(medianInterval([5, 1, 4, 2, 3])).toEqual({ median: 3, low: 1, high: 5 });
    const many = medianInterval(Array.from({ length: 21 }, (_, i) => i));
    expect(many.median).toBe(10);
    expect(many.low).toBeGreaterThan(3);
    expect(many.high).toBeLessThan(17);
  });

  it('has no width for one value', () => {
    expect(medianInterval([7])).toEqual({ median: 7, low: 7, high: 7 });
  });

  it('holds the true median about as often as it says', () => {
    // 300 runs of 11 rounds each, of a skewed quantity whose median is known: 95 % is a promise in the limit of many rounds.
    let state = 1;
    const random = (): number => (state = (state * 48_271) % 2_147_483_647) / 2_147_483_647;
    let held = 0;
    for (let run = 0; run < 300; run += 1) {
      const { low, high } = medianInterval(Array.from({ length: 11 }, () => -Math.log(1 - random())));
      if (low <= Math.LN2 && Math.LN2 <= high) held += 1;
    }
    expect(held / 300).toBeGreaterThan(0.9);
    expect(held / 300).toBeLessThan(1);
  });
});
