import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Backoff } from '../../../../src/sources/xds/backoff.ts';

describe('back-off', () => {
  it('doubles from 10 ms to 15 s', () => {
    const backoff = new Backoff(() => 1);
    const waits = Array.from({ length: 13 }, () => backoff.after(false, 60_000));
    expect(waits).toEqual([10, 20, 40, 80, 160, 320, 640, 1280, 2560, 5120, 10_240, 15_000, 15_000]);
  });

  it('begins anew after a stream that was of use, but not for one that failed right after it had answered', () => {
    const backoff = new Backoff(() => 1);
    for (let count = 0; count < 8; count++) backoff.after(false, 0);
    expect(backoff.after(true, 5)).toBe(2560);
    expect(backoff.after(true, 60_000)).toBe(10);
  });

  it('always waits half to the whole of the delay', () => {
    fc.assert(
      fc.property(fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }), (random) => {
        const wait = new Backoff(() => random).after(false, 0);
        expect(wait).toBeGreaterThanOrEqual(5);
        expect(wait).toBeLessThanOrEqual(10);
      }),
    );
  });
});
