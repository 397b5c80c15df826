/** Counters of one netns, by reason. Shape of redirect/driver.ts's PodCounters. */
import { REASON } from './layout.ts';
import type { Maps } from './open.ts';
import { reasonOf, reasons } from './reasons.ts';

export interface Counters {
  /** connections and DNS queries that took the tunnel */
  outboundRedirected: number;
  /** handed to 15006 or 15008 */
  inboundRedirected: number;
  outboundPassed: Record<string, number>;
  inboundPassed: Record<string, number>;
  /** both directions; "no-tunnel" and "assign" exist in both and are added up */
  dropped: Record<string, number>;
}

/** The same connection again, seen when its SYN arrives: not counted twice. */
const SECOND_LOOK: number = REASON.OUT_REDIRECT_ACCEPTED;

/** How often each reason (C number) was met in a netns; absent means never. */
export function countsOf(maps: Pick<Maps, 'counters'>, cookie: bigint): Map<number, number> {
  const counts = new Map<number, number>();
  for (const { number } of reasons) {
    const count = maps.counters.get({ cookie, reason: number });
    if (count !== undefined) counts.set(number, Number(count));
  }
  return counts;
}

export function summarize(counts: ReadonlyMap<number, number>): Counters {
  const sum: Counters = { outboundRedirected: 0, inboundRedirected: 0, outboundPassed: {}, inboundPassed: {}, dropped: {} };
  for (const [number, count] of counts) {
    const { direction, verdict, reason } = reasonOf(number);
    if (verdict === 'redirected' && number !== SECOND_LOOK) {
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

export function countersOf(maps: Pick<Maps, 'counters'>, cookie: bigint): Counters {
  return summarize(countsOf(maps, cookie));
}

/** Sum of one reason over all netns, also those that are gone. */
export function totalOf(maps: Pick<Maps, 'counters'>, reason: number): number {
  return maps.counters.entries().reduce((sum, { key, value }) => sum + (key.reason === reason ? Number(value) : 0), 0);
}

/** Forgets a netns that has left. */
export function deleteCounters(maps: Pick<Maps, 'counters'>, cookie: bigint): void {
  for (const { number } of reasons) maps.counters.delete({ cookie, reason: number });
}
