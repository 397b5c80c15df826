import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { logDomain, logTicks } from '../../../../src/bench/report/plots/logarithmic.ts';

const positive = fc.double({ min: 1e-3, max: 1e6, noNaN: true });

describe('a logarithmic axis', () => {
  it('reaches beyond its values to both sides', () => {
    fc.assert(
      fc.property(fc.array(positive, { minLength: 2, maxLength: 9 }), (values) => {
        const [low, high] = logDomain(values);
        expect(low).toBeLessThanOrEqual(Math.min(...values));
        expect(high).toBeGreaterThanOrEqual(Math.max(...values));
      }),
    );
  });

  it('has lines inside, apart enough for their labels, and at its anchor if that is round', () => {
    fc.assert(
      fc.property(fc.double({ min: 0.01, max: 0.94, noNaN: true }), fc.double({ min: 1.06, max: 99, noNaN: true }), (low, high) => {
        const ticks = logTicks([low, high], 150, 1);
        expect(ticks).toContain(1);
        const at = (value: number): number => (Math.log(value / low) / Math.log(high / low)) * 150;
        for (const [i, tick] of ticks.entries()) {
          expect(tick).toBeGreaterThanOrEqual(low);
          expect(tick).toBeLessThanOrEqual(high);
          if (i > 0) expect(at(tick) - at(ticks[i - 1]!)).toBeGreaterThanOrEqual(34);
        }
      }),
    );
  });
});
