/**
 * Source ports for connections that the tunnel makes in the client's name. Such a port must be bound, and the kernel never gives
 * a port that anybody has bound to a connect() without bind: taken from the pod's ephemeral range, some ten thousand connections
 * in TIME_WAIT would leave the application's own connects with EADDRNOTAVAIL. So they come from outside that range.
 */
import { native } from '../sys/native.ts';

/** Below it lie the ports that applications usually listen on. */
const FIRST = 10_240;
const LAST = 65_535;
/** The tunnel's own, 15001 to 15090. */
const DOORS = { from: 15_000, to: 15_099 };
/** Fewer than this outside the ephemeral range, and a client that reconnects would soon meet its own TIME_WAIT. */
const ENOUGH = 4096;
const DEFAULT_RANGE: PortRange = { from: 32_768, to: 60_999 };

export interface PortRange {
  from: number;
  to: number;
}

export class ClientPorts {
  readonly #ports: Uint16Array;
  /** Somewhere in the middle: two tunnels may serve one pod. */
  #next: number;

  /** @param ephemeral net.ipv4.ip_local_port_range; one that leaves too few ports is not avoided */
  constructor(ephemeral: PortRange) {
    const outside = portsBut([DOORS, ephemeral]);
    this.#ports = outside.length < ENOUGH ? portsBut([DOORS]) : outside;
    this.#next = Math.floor(Math.random() * this.#ports.length);
  }

  get size(): number {
    return this.#ports.length;
  }

  next(): number {
    this.#next = (this.#next + 1) % this.#ports.length;
    return this.#ports[this.#next] ?? FIRST;
  }
}

function portsBut(excluded: PortRange[]): Uint16Array {
  const all = Array.from({ length: LAST - FIRST + 1 }, (_, i) => FIRST + i);
  return Uint16Array.from(all.filter((port) => !excluded.some(({ from, to }) => port >= from && port <= to)));
}

/** The range of that netns; Linux's default where it can't be read. */
export function ephemeralPorts(netnsFd: number): PortRange {
  const [result] = native.netnsRun(netnsFd, [{ op: 'sysctl-read', path: 'net.ipv4.ip_local_port_range' }]);
  const match = result?.ok === true ? /^(\d+)\s+(\d+)/.exec(String(result.value)) : null;
  return match === null ? DEFAULT_RANGE : { from: Number(match[1]), to: Number(match[2]) };
}
