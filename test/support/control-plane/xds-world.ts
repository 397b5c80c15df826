/** Servers, feeds and files of one test, and their end. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { XdsFeedOptions } from '../../../src/sources/xds/feed.ts';
import { AdsScript } from './ads.ts';
import { runFeed, type RunningFeed } from './feed.ts';
import { startServer, type ControlPlaneServer, type Method, type ServerSettings } from './server.ts';

export class XdsWorld {
  readonly dir = mkdtempSync(join(tmpdir(), 'culvert-xds-'));
  readonly ads = new AdsScript();
  readonly #servers: ControlPlaneServer[] = [];
  readonly #feeds: RunningFeed[] = [];

  /** @param method instead of the script's */
  async serve(settings: ServerSettings = {}, method: Method = this.ads.method): Promise<ControlPlaneServer> {
    const server = await startServer([method], settings);
    this.#servers.push(server);
    return server;
  }

  follow(controlPlane: { address: string; rootFile: string }, options: Partial<XdsFeedOptions> & { tokenFile?: string } = {}): RunningFeed {
    const { tokenFile, ...others } = options;
    const { address, rootFile: rootCert } = controlPlane;
    const feed = runFeed({ address, rootCert, ...(tokenFile === undefined ? {} : { tokenFile }) }, others);
    this.#feeds.push(feed);
    return feed;
  }

  async end(): Promise<void> {
    for (const feed of this.#feeds) feed.close();
    for (const server of this.#servers) await server.stop();
    rmSync(this.dir, { recursive: true, force: true });
  }
}
