/** Records of the ring buffer. Shape of redirect/driver.ts's DatapathEvent. */
import { formatEnd } from './address.ts';
import { decode } from './codec.ts';
import { reasonOf, type Reason } from './reasons.ts';

export interface Event extends Pick<Reason, 'direction' | 'verdict'> {
  /** RFC 3339 */
  time: string;
  cookie: bigint;
  /** text of the reason */
  reason: string;
  /** C name of the reason, which is unique */
  name: string;
  /** IPPROTO_* */
  protocol: number;
  /** undefined where the hook does not know it */
  src?: string;
  dst: string;
}

const UNKNOWN = ['::', '0.0.0.0'];

/** @param record one record of `events` */
export function decodeEvent(record: Uint8Array): Event {
  const event = decode('event', record);
  const { direction, verdict, reason, name } = reasonOf(event.reason);
  return {
    time: wallClock(event.time),
    cookie: event.cookie,
    direction,
    verdict,
    reason,
    name,
    protocol: event.protocol,
    ...(UNKNOWN.includes(event.src) ? {} : { src: formatEnd(event.src, event.sport) }),
    dst: formatEnd(event.dst, event.dport),
  };
}

/** The programs' clock is CLOCK_MONOTONIC, as process.hrtime's is. */
function wallClock(ns: bigint): string {
  return new Date(Date.now() - ageMs(ns)).toISOString();
}

/** Milliseconds since a time that a program wrote. */
export function ageMs(ns: bigint): number {
  return Number((process.hrtime.bigint() - ns) / 1_000_000n);
}
