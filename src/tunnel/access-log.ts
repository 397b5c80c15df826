/** One line per connection, with ztunnel's field names; absent fields are left out. */
import { describe } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import { formatAddress, type SocketAddress } from '../state/address.ts';
import type { Workload } from '../state/workload.ts';
import type { Counters } from './copy.ts';

export type Direction = 'inbound' | 'outbound';

export interface ConnectionFacts {
  direction: Direction;
  protocol: 'HBONE' | 'TCP';
  src: SocketAddress;
  /** the next hop: port 15008 of the peer when it is HBONE */
  dst: SocketAddress;
  /** the inner target of HBONE */
  hbone?: SocketAddress | undefined;
  srcWorkload?: Workload | undefined;
  dstWorkload?: Workload | undefined;
  /** proven by mTLS, else absent */
  srcIdentity?: string | undefined;
  dstIdentity?: string | undefined;
  /** host name */
  service?: string | undefined;
}

/** What can be said of a connection that was refused before anything about it was known. */
export type RefusedFacts = Pick<ConnectionFacts, 'direction' | 'src' | 'dst'> & Partial<ConnectionFacts>;

export class AccessLog {
  readonly #log: Logger;

  /** @param log a logger whose scope is "access" */
  constructor(log: Logger) {
    this.#log = log;
  }

  opened(facts: ConnectionFacts): void {
    if (this.#log.isLevelEnabled('debug')) this.#log.debug({ ...fields(facts), message: 'connection opened' });
  }

  complete(facts: ConnectionFacts, counters: Counters, durationMs: number, error: unknown): void {
    const line = {
      ...fields(facts),
      bytes_sent: counters.sent,
      bytes_recv: counters.received,
      duration: `${String(Math.round(durationMs))}ms`,
      message: 'connection complete',
    };
    if (error === undefined) this.#log.info(line);
    else this.#log.error({ ...line, error: describe(error) });
  }

  refused(facts: RefusedFacts, error: unknown): void {
    this.#log.warn({ ...fields(facts), error: describe(error), message: 'connection failed' });
  }
}

function fields(facts: RefusedFacts): Record<string, string> {
  const all: Record<string, string | undefined> = {
    'src.addr': formatAddress(facts.src),
    'src.workload': facts.srcWorkload?.name,
    'src.namespace': facts.srcWorkload?.namespace,
    'src.identity': facts.srcIdentity,
    'dst.addr': formatAddress(facts.dst),
    'dst.hbone_addr': facts.hbone && formatAddress(facts.hbone),
    'dst.service': facts.service,
    'dst.workload': facts.dstWorkload?.name,
    'dst.namespace': facts.dstWorkload?.namespace,
    'dst.identity': facts.dstIdentity,
    direction: facts.direction,
  };
  const present: Record<string, string> = {};
  for (const key in all) {
    const value = all[key];
    if (value !== undefined) present[key] = value;
  }
  return present;
}
