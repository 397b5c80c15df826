import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Ratio } from '../../../../src/bench/report.ts';
import { bandOf, verdictOf } from '../../../../src/bench/statistics/verdict.ts';

const twin = (low: number, high: number): Ratio => ({
  metric: 'bulk',
  tunnel: 'none',
  a: 'direct-2',
  b: 'direct',
  median: (low + high) / 2,
  low,
  high,
  rounds: 9,
});

describe('bandOf', () => {
  it('is around 1 and as wide to both sides as the A/A interval to one', () => {
    expect(bandOf([twin(0.8, 1.1)], 'bulk', 'none')).toEqual({ low: 0.8, high: 1.25, measured: true });
    expect(bandOf([twin(1.02, 1.25)], 'bulk', 'none')).toEqual({ low: 0.8, high: 1.25, measured: true });
  });

  it('has no width where there is no A/A ratio of this metric and tunnel', () => {
    const none = { low: 1, high: 1, measured: false };
    expect(bandOf([twin(0.8, 1.1)], 'connections', 'none')).toEqual(none);
    expect(bandOf([twin(0.8, 1.1)], 'bulk', 'builtin')).toEqual(none);
  });
});

describe('verdictOf', () => {
  const band = { low: 0.9, high: 1.1, measured: true };

  it('is noise when the interval meets the band', () => {
    expect(verdictOf({ low: 1.05, high: 1.4 }, band, 'more')).toBe('noise');
    expect(verdictOf({ low: 0.5, high: 0.9 }, band, 'less')).toBe('noise');
    expect(verdictOf({ low: 0.5, high: 2 }, band, 'less')).toBe('noise');
  });

  it('knows whether more is better', () => {
    expect(verdictOf({ low: 1.2, high: 1.4 }, band, 'more')).toBe('a');
    expect(verdictOf({ low: 1.2, high: 1.4 }, band, 'less')).toBe('b');
    expect(verdictOf({ low: 0.7, high: 0.8 }, band, 'more')).toBe('b');
    expect(verdictOf({ low: 0.7, high: 0.8 }, band, 'less')).toBe('a');
  });

  it('turns round when the two are exchanged', () => {
    const number = fc.double({ min: 0.2, max: 5, noNaN: true });
    fc.assert(
      fc.property(number, number, fc.constantFrom('more' as const, 'less' as const), (one, other, better) => {
        const [low, high] = [Math.min(one, other), Math.max(one, other)];
        const symmetric = { low: 1 / 1.07, high: 1.07, measured: true };
        const turned = { a: 'b', b: 'a', noise: 'noise' } as const;
        expect(verdictOf({ low: 1 / high, high: 1 / low }, symmetric, better)).toBe(turned[verdictOf({ low, high }, symmetric, better)]);
      }),
    );
  });
});
