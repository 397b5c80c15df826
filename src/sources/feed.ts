/** What keeps a tunnel's state current: a mesh file, or a control plane over xDS. */
import type { StateStore } from '../state/store.ts';

export interface FeedEvents {
  /** Once: the store now holds the whole mesh (or, on demand, is ready to be asked). Never called before the store was filled. */
  onSynced(): void;
  /** Faults in what the source sent, each named; the last good state stays in use. Also a source that is away, once per outage. */
  onError(error: Error): void;
}

export interface StateFeed {
  readonly kind: 'file' | 'xds';
  /** Feeds the store until closed. Called once. */
  start(store: StateStore, events: FeedEvents): { close(): void };
  /**
   * On-demand feeds only: asks for what is behind an address that the store does not know. Resolves when it was answered, for better
   * or worse, or could not be within the feed's own deadline; then the store knows it or nobody does. Never rejects.
   */
  demand?(ip: string): Promise<void>;
}
