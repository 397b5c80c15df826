/** A mesh file as a feed of the state: every good snapshot is applied as what it changes. */
import type { FeedEvents, StateFeed } from '../feed.ts';
import type { Source } from '../source.ts';
import type { StateStore } from '../../state/store.ts';
import { stateOfMesh } from './mesh.ts';

export function createFileFeed(source: Source): StateFeed {
  return {
    kind: 'file',
    start(store: StateStore, events: FeedEvents) {
      let synced = false;
      return source.watch(
        (mesh) => {
          store.replace(stateOfMesh(mesh, store.network));
          if (synced) return;
          synced = true;
          events.onSynced();
        },
        (error) => events.onError(error),
      );
    },
  };
}
