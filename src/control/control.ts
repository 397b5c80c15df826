/** The control plane, put together: a cluster's objects become resources for tunnels, and its CA signs for the pods they serve. */
import { Changes } from '../base/changes.ts';
import { describe } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import { AdsServer } from './ads/server.ts';
import { Authority } from './ca/authority.ts';
import { certificateService } from './ca/service.ts';
import { ServingCertificate, servingNames } from './ca/serving-certificate.ts';
import { Catalog } from './catalog/catalog.ts';
import type { ObjectChange } from './cluster.ts';
import type { ControlConfig } from './config.ts';
import type { Platform } from './platform.ts';
import { authorizationResource, Policies } from './policy/policies.ts';
import { ResourceStore } from './resource-store.ts';
import { ControlServer } from './server.ts';
import type { ControlStatus } from './status.ts';

const SERVICE = 'culvert-control';

export interface ControlOptions {
  config: ControlConfig;
  version: string;
  platform: Platform;
  /** a logger for a scope, "xds" among them */
  logger: (scope: string) => Logger;
}

export class Control {
  readonly #options: ControlOptions;
  readonly #store = new ResourceStore();
  readonly #policies: Policies;
  readonly #catalog: Catalog;
  readonly #authority: Authority;
  readonly #ads: AdsServer;
  readonly #open: { close(): void }[] = [];
  /** of the cluster, so that a caller that is ahead of us can wait */
  readonly #changes = new Changes();
  #synced: () => void = () => undefined;
  #isSynced = false;
  #server: ControlServer | undefined;
  #port = 0;

  constructor(options: ControlOptions) {
    this.#options = options;
    const { config, platform, logger } = options;
    const { rootNamespace, trustDomain, nodeAccounts } = config;
    this.#policies = new Policies({ rootNamespace, trustDomain, log: logger('policy') });
    this.#catalog = new Catalog({
      ...{ clusterId: config.clusterId, clusterDomain: config.clusterDomain, trustDomain, network: config.network },
      ...{ systemNamespace: rootNamespace, policies: this.#policies, store: this.#store, log: logger('catalog') },
    });
    const lifetimes = { defaultLifetimeMs: config.certificateLifetimeMs, maxLifetimeMs: config.maxCertificateLifetimeMs };
    const { roots } = platform;
    const reserve =
      roots.reserve === undefined ? {} : { reserve: (lifetimeMs: number) => roots.reserve?.(lifetimeMs) ?? Promise.resolve() };
    this.#authority = new Authority(roots.material, { ...lifetimes, ...reserve });
    this.#ads = new AdsServer({
      ...{ store: this.#store, authenticator: platform.authenticator, allowedAccounts: nodeAccounts },
      ...{ ready: new Promise((resolve) => (this.#synced = resolve)), log: logger('xds') },
    });
  }

  /** Resolves when it listens; callers are answered once the cluster is known. @returns the port @throws SYSTEM, CERTIFICATE */
  async start(): Promise<number> {
    const { config, platform, logger } = this.#options;
    const log = logger('control');
    const { authenticator, roots, lookup } = platform;
    this.#open.push(roots.onMaterial((material) => this.#authority.install(material)));
    this.#authority.install(roots.material); // it may have changed since the constructor
    const names = servingNames(SERVICE, config.namespace, config.clusterDomain, config.servingNames);
    const serving = await ServingCertificate.obtain({ authority: this.#authority, names, log: logger('ca') });
    this.#open.push(serving);
    const certificates = certificateService({
      ...{ authority: this.#authority, authenticator, inventory: this.#catalog, changes: this.#changes, log: logger('ca') },
      policy: { trustDomain: config.trustDomain, trustedNodeAccounts: new Set(config.nodeAccounts) },
      ...(lookup === undefined ? {} : { lookup }),
    });
    this.#server = new ControlServer({ address: config.address, methods: [this.#ads.method, certificates], tls: serving, log });
    this.#port = await this.#server.start();
    const watch = platform.cluster.watch({
      onChanges: (changes) => this.#take(changes),
      onSynced: () => this.#sync(),
      onError: (error) => log.error({ error: describe(error) }, 'cluster has faults, or is away; what is known stays in use'),
    });
    this.#open.push(watch);
    platform.begin(this.#authority);
    return this.#port;
  }

  get ready(): boolean {
    return this.#isSynced && this.#server !== undefined;
  }

  status(): ControlStatus {
    const { platform, version } = this.#options;
    return {
      version,
      cluster: platform.cluster.kind,
      port: this.#port,
      synced: this.#isSynced,
      leader: platform.isLeader(),
      resources: { address: this.#store.size('address'), authorization: this.#store.size('authorization') },
      ca: { signer: this.#authority.signer },
      counters: this.#ads.counters(),
      sessions: this.#ads.sessions(),
      memory: process.memoryUsage(),
    };
  }

  /** Callers go on with what they have and look for another replica. */
  async close(): Promise<void> {
    for (const part of this.#open.splice(0)) part.close();
    this.#ads.close();
    await this.#server?.close(this.#options.config.drainDeadlineMs);
    await this.#options.platform.close();
  }

  #take(changes: readonly ObjectChange[]): void {
    const { set, removed, affected, reports } = this.#policies.apply(changes);
    this.#store.apply('authorization', set.map(authorizationResource), removed);
    this.#catalog.apply(changes);
    if (affected === 'all' || affected.size > 0) this.#catalog.policiesChanged(affected, removed.length > 0);
    this.#options.platform.report(reports);
    this.#changes.notify();
  }

  #sync(): void {
    const started = performance.now();
    this.#catalog.synced();
    this.#isSynced = true;
    this.#synced();
    const size = { workloadsAndServices: this.#store.size('address'), policies: this.#store.size('authorization') };
    this.#options.logger('control').info({ ...size, ms: Math.round(performance.now() - started) }, 'cluster is known');
  }
}
