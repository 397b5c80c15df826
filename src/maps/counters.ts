/** Counters of one netns, by reason. */
import type { PodCounters } from '../redirect/driver.ts';
import { REASON } from './layout.ts';
import type { Maps } from './open.ts';
import { reasonOf, reasons } from './reasons.ts';

/** The same connection again, seen when its SYN arrives: not counted twice. */
const SECOND_LOOK: number = REASON.OUT_REDIRECT_ACCEPTED;

export function isSecondLook(reason: number): boolean {
  return reason === SECOND_LOOK;
}

/** How often each reason (C number) was met in a netns; absent means never. */
export function countsOf(maps: Pick<Maps, 'counters'>, cookie: bigint): Map<number, number> {
  const counts = new Map<number, number>();
  for (const { number } of reasons) {
    const count = maps.counters.get({ cookie, reason: number });
    if (count !== undefined) counts.set(number, Number(count));
  }
  return counts;
}

/**
 * Redirected outbound are connections and DNS queries that took the tunnel, inbound those handed to 15006 or 15008. Dropped are of
 * both directions: "no-tunnel" and "assign" exist in both and are added up.
 */
export function summarize(counts: ReadonlyMap<number, number>): PodCounters {
  const sum: PodCounters = { outboundRedirected: 0, inboundRedirected: 0, outboundPassed: {}, inboundPassed: {}, dropped: {} };
  for (const [number, count] of counts) {
    const { direction, verdict, reason } = reasonOf(number);
    if (verdict === 'redirected' && !isSecondLook(number)) {
      if (direction === 'outbound') sum.outboundRedirected += count;
      else sum.inboundRedirected += count;
    } else if (verdict === 'passed') {
      const passed = direction === 'outbound' ? sum.outboundPassed : sum.inboundPassed;
      passed[reason] = (passed[reason] ?? 0) + count;
    } else if (verdict === 'dropped') {
      sum.dropped[reason] = (sum.dropped[reason] ?? 0) + count;
    }
  }
  return sum;
}

export function countersOf(maps: Pick<Maps, 'counters'>, cookie: bigint): PodCounters {
  return summarize(countsOf(maps, cookie));
}

/** Sum of one reason over all netns, also those that are gone. */
export function totalOf(maps: Pick<Maps, 'counters'>, reason: number): number {
  return maps.counters.entries().reduce((sum, { key, value }) => sum + (key.reason === reason ? Number(value) : 0), 0);
}

/** Forgets a netns that has left. */
export function deleteCounters(maps: Pick<Maps, 'counters'>, cookie: bigint): void {
  maps.counters.deleteAll(reasons.map(({ number }) => ({ cookie, reason: number })));
}
