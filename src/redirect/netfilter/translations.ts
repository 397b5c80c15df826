/**
 * Live events without a ring buffer: conntrack of each netns tells of every new connection, and by where its answers come from whether a
 * rule redirected it. Asked only while somebody listens. A connection that is refused is none: drops have no events here.
 */
import { describe } from '../../base/errors.ts';
import type { Logger } from '../../base/log.ts';
import { wire } from '../../maps/layout.ts';
import { formatAddress, isLoopback } from '../../state/address.ts';
import { native, type NewConnection } from '../../sys/native.ts';
import type { DatapathEvent } from '../driver.ts';
import { PROBE_ADDRESS } from './rules.ts';

/** What of a netns tells how a connection in it was treated. */
export interface Watched {
  cookie: bigint;
  netnsFd: number;
  addresses: readonly string[];
  active: boolean;
  ingressMode: boolean;
}

type Listener = (event: DatapathEvent) => void;
type What = Pick<DatapathEvent, 'direction' | 'verdict' | 'reason'>;

const TCP = 6;
const UDP = 17;

export class Translations {
  readonly #watched: () => Watched[];
  readonly #log: Logger;
  readonly #listeners = new Set<Listener>();
  readonly #subscriptions = new Map<bigint, { close(): void }>();
  /** times that the kernel had no room for what it wanted to say */
  lost = 0;

  /** @param watched as it is now: asked again at every event */
  constructor(watched: () => Watched[], log: Logger) {
    this.#watched = watched;
    this.#log = log;
  }

  on(listener: Listener): { close(): void } {
    const own: Listener = (event) => listener(event);
    this.#listeners.add(own);
    this.follow();
    return {
      close: () => {
        this.#listeners.delete(own);
        this.follow();
      },
    };
  }

  /** Subscribes where somebody listens and a netns is enrolled, and nowhere else. */
  follow(): void {
    const wanted = new Map(this.#listeners.size === 0 ? [] : this.#watched().map((each) => [each.cookie, each]));
    for (const [cookie, subscription] of this.#subscriptions) {
      if (wanted.has(cookie)) continue;
      subscription.close();
      this.#subscriptions.delete(cookie);
    }
    for (const [cookie, { netnsFd }] of wanted) if (!this.#subscriptions.has(cookie)) this.#subscribe(cookie, netnsFd);
  }

  close(): void {
    this.#listeners.clear();
    this.follow();
  }

  #subscribe(cookie: bigint, netnsFd: number): void {
    try {
      const subscription = native.netnsConntrack(netnsFd, (connections, lost) => {
        this.lost += lost;
        this.#tell(cookie, connections);
      });
      this.#subscriptions.set(cookie, subscription);
    } catch (error) {
      this.#log.warn({ cookie: String(cookie), error: describe(error) }, 'new connections of a pod are not told');
    }
  }

  #tell(cookie: bigint, connections: readonly NewConnection[]): void {
    const watched = this.#watched().find((each) => each.cookie === cookie);
    if (watched === undefined) return;
    for (const connection of connections) {
      const event = eventOf(watched, connection);
      if (event !== undefined) for (const listener of this.#listeners) listener(event);
    }
  }
}

/** undefined: no business of the redirect */
export function eventOf(watched: Watched, connection: NewConnection): DatapathEvent | undefined {
  const { source, destination } = connection;
  const what = redirected(connection) ?? passed(watched, connection);
  if (what === undefined) return undefined;
  const text = ({ address, port }: NewConnection['source']): string => formatAddress({ ip: address, port });
  return { time: new Date().toISOString(), cookie: watched.cookie, ...what, src: text(source), dst: text(destination) };
}

function redirected({ protocol, destination, answers }: NewConnection): What | undefined {
  if (answers.port === destination.port && answers.address === destination.address) return undefined;
  switch (answers.port) {
    case wire.PORT_OUTBOUND:
      return { direction: 'outbound', verdict: 'redirected', reason: 'accepted' };
    case wire.PORT_INBOUND:
      return { direction: 'inbound', verdict: 'redirected', reason: 'tunnel' };
    case wire.PORT_DNS:
      return { direction: 'outbound', verdict: 'redirected', reason: protocol === UDP ? 'dns-udp' : 'dns-tcp' };
    default:
      return undefined;
  }
}

/**
 * What no rule took. With every capture in place that can only be the tunnel itself: outside as "tunnel", towards the application in
 * its client's name as "inner".
 */
function passed({ addresses, active, ingressMode }: Watched, { protocol, source, destination }: NewConnection): What | undefined {
  if (protocol !== TCP && !(protocol === UDP && destination.port === 53)) return undefined;
  const here = (address: string): boolean => addresses.includes(address) || isLoopback(address);
  const out = (reason: string): What => ({ direction: 'outbound', verdict: 'passed', reason });
  const into = (reason: string): What => ({ direction: 'inbound', verdict: 'passed', reason });
  if (here(source.address)) {
    if (isLoopback(destination.address)) return out('loopback');
    if (here(destination.address)) return out('own');
    return out(active ? (protocol === UDP ? 'dns-off' : 'tunnel') : 'inactive');
  }
  if (protocol === UDP) return undefined;
  if (destination.port === wire.PORT_HBONE && here(destination.address))
    return { direction: 'inbound', verdict: 'redirected', reason: 'hbone' };
  if (source.address === PROBE_ADDRESS[4] || source.address === PROBE_ADDRESS[6]) return into('exempt');
  if (!active) return into('inactive');
  return into(ingressMode ? 'ingress' : 'inner');
}
