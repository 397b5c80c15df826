/** Asks a feed that brings the mesh piece by piece for what a pod dials and nobody knows yet. */
import type { StateFeed } from '../sources/feed.ts';
import type { StateStore } from '../state/store.ts';

/** Resolves when the state knows the address or never will; at once where the feed brings everything anyway. Never rejects. */
export type Know = (ip: string, callerNamespace: string) => Promise<void>;

export function demanding(feed: Pick<StateFeed, 'demand'>, state: StateStore): Know {
  return async (ip, callerNamespace) => {
    if (state.byVip(ip, callerNamespace) !== undefined || state.byIp(ip) !== undefined) return;
    await feed.demand?.(ip);
  };
}
