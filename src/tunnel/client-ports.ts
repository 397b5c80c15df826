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
  /** in ascending order, none empty; a pod costs two or three of these, not a list of ports */
  readonly #ranges: readonly PortRange[];
  readonly size: number;
  /** Position in all ranges together. Somewhere in the middle at first: two tunnels may serve one pod. */
  #next: number;

  /** @param ephemeral net.ipv4.ip_local_port_range; one that leaves too few ports is not avoided */
  constructor(ephemeral: PortRange) {
    const all = without([{ from: FIRST, to: LAST }], DOORS);
    const outside = without(all, ephemeral);
    this.#ranges = sizeOf(outside) < ENOUGH ? all : outside;
    this.size = sizeOf(this.#ranges);
    this.#next = Math.floor(Math.random() * this.size);
  }

  next(): number {
    this.#next = (this.#next + 1) % this.size;
    let position = this.#next;
    for (const { from, to } of this.#ranges) {
      if (position <= to - from) return from + position;
      position -= to - from + 1;
    }
    return FIRST; // not reached: the position is below the size
  }
}

function without(ranges: readonly PortRange[], excluded: PortRange): PortRange[] {
  return ranges
    .flatMap(({ from, to }) => [
      { from, to: Math.min(to, excluded.from - 1) },
      { from: Math.max(from, excluded.to + 1), to },
    ])
    .filter(({ from, to }) => from <= to);
}

function sizeOf(ranges: readonly PortRange[]): number {
  return ranges.reduce((sum, { from, to }) => sum + to - from + 1, 0);
}

/** The range of that netns; Linux's default where it can't be read. */
export function ephemeralPorts(netnsFd: number): PortRange {
  const [result] = native.netnsRun(netnsFd, [{ op: 'sysctl-read', path: 'net.ipv4.ip_local_port_range' }]);
  const match = result?.ok === true ? /^(\d+)\s+(\d+)/.exec(String(result.value)) : null;
  return match === null ? DEFAULT_RANGE : { from: Number(match[1]), to: Number(match[2]) };
}
