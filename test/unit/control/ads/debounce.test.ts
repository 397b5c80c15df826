/** When changes are pushed. */
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { Batch } from '../../../../src/control/ads/batch.ts';
import { Debounce } from '../../../../src/control/ads/debounce.ts';

let fired: number[];
let debounce: Debounce;
beforeEach(() => {
  vi.useFakeTimers();
  const start = performance.now();
  fired = [];
  debounce = new Debounce({ quietMs: 10, maxDelayMs: 100, gapMs: 50 }, () => void fired.push(performance.now() - start));
});
afterEach(() => vi.useRealTimers());

it('a lone change waits only for quiet', () => {
  debounce.touch();
  vi.advanceTimersByTime(200);
  expect(fired).toEqual([10]);
});

it('a burst goes together, when it has ended', () => {
  for (let i = 0; i < 5; i++) {
    debounce.touch();
    vi.advanceTimersByTime(5);
  }
  vi.advanceTimersByTime(200);
  expect(fired).toEqual([30]);
});

it('nothing waits longer than the bound, and pushes keep their distance', () => {
  for (let i = 0; i < 60; i++) {
    debounce.touch();
    vi.advanceTimersByTime(5);
  }
  expect(fired[0]).toBe(100);
  expect(fired[1]).toBe(200);
  vi.advanceTimersByTime(200);
  fired.length = 0;
  for (let i = 0; i < 10; i++) {
    debounce.touch();
    vi.advanceTimersByTime(20);
  }
  const gaps = fired.slice(1).map((at, i) => at - fired[i]!);
  expect(Math.min(...gaps)).toBeGreaterThanOrEqual(50);
});

it('what is due later can be had now, once', () => {
  debounce.now();
  debounce.touch();
  debounce.now();
  debounce.now();
  vi.advanceTimersByTime(200);
  expect(fired).toEqual([0]);
});

it('a batch holds what clients must hear of, not what happened', () => {
  const batch = new Batch();
  const add = (changed: string[], added: string[], removed: string[]): void =>
    batch.add({ kind: 'address', changed, added: new Set(added), removed });
  add(['old', 'new', 'brief'], ['new', 'brief'], ['left', 'back']);
  add(['back', 'new'], ['back'], ['brief', 'old']);
  expect([[...batch.changed], [...batch.added], [...batch.removed]]).toEqual([['new', 'back'], ['new'], ['left', 'old']]);
  expect(batch.empty).toBe(false);
});
