/** Records of the ring buffer. */
import type { DatapathEvent } from '../redirect/driver.ts';
import { formatEnd } from './address.ts';
import { decode } from './codec.ts';
import { reasonOf } from './reasons.ts';

export interface Event extends DatapathEvent {
  /** C name of the reason, which is unique */
  name: string;
  /** IPPROTO_* */
  protocol: number;
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
