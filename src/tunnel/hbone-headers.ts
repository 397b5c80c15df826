/**
 * The headers of an HBONE CONNECT beside `:method` and `:authority`, as ztunnels write them. Of what a
 * peer wrote only the service's name is used, and only for logs: reading is lenient, anything odd is nothing.
 */
import { randomBytes } from 'node:crypto';
import { formatAddress, type SocketAddress } from '../state/address.ts';
import type { Workload } from '../state/workload.ts';

/** Who calls, for the far end's telemetry; what is not known is left out. Encoded as W3C has it, which leaves the usual names as they are. */
export function baggage(source: Workload): string {
  const all: [name: string, value: string][] = [
    ['k8s.cluster.name', source.clusterId],
    ['k8s.namespace.name', source.namespace],
    [`k8s.${source.workloadType}.name`, source.workloadName],
    ['service.name', source.canonicalName],
    ['service.version', source.canonicalRevision],
    ['cloud.region', source.locality.region],
    ['cloud.availability_zone', source.locality.zone],
  ];
  return all
    .filter(([, value]) => value !== '')
    .map(([name, value]) => `${name}=${encodeURIComponent(value.toWellFormed())}`)
    .join(',');
}

/** @param host of the service that was dialled */
export function forwarded(client: SocketAddress, host: string | undefined): string {
  const element = `for="${formatAddress(client)}"`;
  return host === undefined ? element : `${element};host=${host}`;
}

/** W3C trace context, not sampled. */
export function traceparent(): string {
  const id = randomBytes(24).toString('hex');
  return `00-${id.slice(0, 32)}-${id.slice(32)}-00`;
}

/** Headers of one name may come once, several times, or not at all. */
export type HeaderValue = string | string[] | undefined;

/** `host=` of the first element that has one. */
export function forwardedHost(value: HeaderValue): string | undefined {
  const match = /(?:^|[;,\s])host="?([a-z0-9.-]{1,253})"?(?=$|[;,\s])/i.exec(joined(value));
  return match?.[1]?.toLowerCase();
}

function joined(value: HeaderValue): string {
  const text = Array.isArray(value) ? value.join(',') : (value ?? '');
  return text.slice(0, 4096);
}
