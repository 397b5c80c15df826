/** An ADS server with a store that a test fills, and the clients of a test. */
import { CulvertError } from '../../../../src/base/errors.ts';
import { AdsServer, type AdsOptions } from '../../../../src/control/ads/server.ts';
import type { Authenticator } from '../../../../src/control/authenticator.ts';
import { ResourceStore } from '../../../../src/control/resource-store.ts';
import type { ResourceContent } from '../../../../src/control/resources.ts';
import { collectingLogger, type LogLine } from '../../../support/control-plane/logs.ts';
import { startServer, type ControlPlaneServer } from '../../../support/control-plane/server.ts';
import { AdsClient } from './client.ts';

/** "good" is ztunnel's, "web" is a workload's. */
const authenticator: Authenticator = {
  authenticate(token) {
    if (token === 'good') return Promise.resolve({ namespace: 'istio-system', serviceAccount: 'ztunnel' });
    if (token === 'web') return Promise.resolve({ namespace: 'shop', serviceAccount: 'web' });
    if (token === 'outage') return Promise.reject(new CulvertError('KUBERNETES', 'review token: connect ECONNREFUSED 10.0.0.1'));
    return Promise.reject(new CulvertError('UNAUTHENTICATED', 'review token: it has expired'));
  },
};

export class AdsWorld {
  readonly store: ResourceStore;
  readonly ads: AdsServer;
  readonly server: ControlPlaneServer;
  readonly lines: LogLine[];
  readonly #clients: AdsClient[] = [];

  private constructor(store: ResourceStore, ads: AdsServer, server: ControlPlaneServer, lines: LogLine[]) {
    this.store = store;
    this.ads = ads;
    this.server = server;
    this.lines = lines;
  }

  static async start(options: Partial<AdsOptions> = {}): Promise<AdsWorld> {
    const store = options.store ?? new ResourceStore();
    const { log, lines } = collectingLogger();
    const ads = new AdsServer({
      ...{ store, authenticator, allowedAccounts: ['istio-system/ztunnel'], ready: Promise.resolve(), log },
      ...{ quietMs: 1, maxDelayMs: 5, gapMs: 1 },
      ...options,
    });
    return new AdsWorld(store, ads, await startServer([ads.method]), lines);
  }

  client(token?: string): AdsClient {
    const client = new AdsClient(this.server, token);
    this.#clients.push(client);
    return client;
  }

  /** @param text of which the version depends */
  set(...resources: (Partial<ResourceContent> & { name: string; text?: string })[]): void {
    this.store.apply(
      'address',
      resources.map(({ text = '', ...rest }) => ({ message: Buffer.from(text), ...rest })),
      [],
    );
  }

  remove(...names: string[]): void {
    this.store.apply('address', [], names);
  }

  async stop(): Promise<void> {
    for (const client of this.#clients) client.close();
    this.ads.close();
    await this.server.stop();
  }
}
