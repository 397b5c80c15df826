/** Counters of rules under the names that every driver counts by. Pure. */
import type { PodCounters, Tally } from '../driver.ts';
import { podRules, type Shape } from './rules.ts';

export function talliesFrom(cookie: bigint, shape: Shape, counts: ReadonlyMap<string, number>): Tally[] {
  const sums = new Map<string, Tally>();
  for (const { id, counts: what } of podRules(shape)) {
    const count = counts.get(id) ?? 0;
    if (what === undefined || count === 0) continue;
    const key = `${what.direction} ${what.verdict} ${what.reason}`;
    const tally = sums.get(key) ?? { cookie, ...what, count: 0 };
    sums.set(key, { ...tally, count: tally.count + count });
  }
  return [...sums.values()];
}

export function countersFrom(tallies: readonly Tally[]): PodCounters {
  const counters: PodCounters = { outboundRedirected: 0, inboundRedirected: 0, outboundPassed: {}, inboundPassed: {}, dropped: {} };
  for (const { direction, verdict, reason, count } of tallies) {
    if (verdict === 'redirected' && direction === 'outbound') counters.outboundRedirected += count;
    if (verdict === 'redirected' && direction === 'inbound') counters.inboundRedirected += count;
    if (verdict === 'passed') {
      const passed = direction === 'outbound' ? counters.outboundPassed : counters.inboundPassed;
      passed[reason] = (passed[reason] ?? 0) + count;
    }
  }
  return counters;
}
