/** An xDS feed at work, and what it said. */
import { Changes } from '../../../src/base/changes.ts';
import type { ControlPlaneOptions } from '../../../src/rpc/channel.ts';
import { createXdsFeed, type XdsFeed, type XdsFeedOptions } from '../../../src/sources/xds/feed.ts';
import { StateStore } from '../../../src/state/store.ts';
import { collectingLogger, type LogLine } from './logs.ts';

const PATIENCE_MS = 8000;

export interface RunningFeed {
  feed: XdsFeed;
  store: StateStore;
  /** messages of onError */
  errors: string[];
  lines: LogLine[];
  synced(): boolean;
  /** Asked again at every event and change of state. */
  until(what: string, ask: () => boolean): Promise<void>;
  close(): void;
}

export function runFeed(
  controlPlane: Pick<ControlPlaneOptions, 'address' | 'rootCert'> & Partial<ControlPlaneOptions>,
  options: Partial<XdsFeedOptions> = {},
): RunningFeed {
  const { log, lines } = collectingLogger();
  const changes = new Changes();
  const network = options.network ?? '';
  const store = new StateStore({ network });
  const errors: string[] = [];
  let synced = 0;
  const node = { name: 'node1', ip: '10.0.0.9', podName: 'tunnel-x', namespace: 'culvert' };
  const feed = createXdsFeed({
    node,
    network,
    onDemand: false,
    logger: log,
    ...options,
    controlPlane: { clusterId: 'Kubernetes', ...controlPlane },
  });
  store.onChange(() => changes.notify());
  const running = feed.start(store, {
    onSynced: () => {
      synced++;
      changes.notify();
    },
    onError: (error) => {
      errors.push(error.message);
      changes.notify();
    },
  });
  return {
    feed,
    store,
    errors,
    lines,
    synced: () => {
      if (synced > 1) throw new Error('onSynced was called twice');
      return synced === 1;
    },
    until: async (what, ask) => {
      if ((await changes.until(() => (ask() ? true : undefined), PATIENCE_MS)) === undefined) throw new Error(`waited in vain: ${what}`);
    },
    close: () => running.close(),
  };
}
