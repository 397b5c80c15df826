/** The built-in ztunnel, put together: a feed keeps the state, ZDS brings the pods, each pod gets a proxy. */
import type { Server } from 'node:http';
import { describe } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import type { StateFeed } from '../sources/feed.ts';
import { StateStore } from '../state/store.ts';
import { ZdsClient, type ConnectSeqpacket } from '../zds/client.ts';
import { AccessLog } from './access-log.ts';
import { serveTcp, serveUnix, type UnixServer } from '../sys/doors.ts';
import { adminHandler, readinessHandler, type AdminEnv } from './admin.ts';
import { Certificates } from './certificates.ts';
import { configDump } from './config-dump.ts';
import { demanding } from './demand.ts';
import type { CertificateIssuer } from './issuer.ts';
import { NetnsSockets } from './netns-sockets.ts';
import type { TunnelEnv } from './pod.ts';
import { PodProxy } from './pod-proxy.ts';
import { Prefetch } from './prefetch.ts';
import { RoundRobin } from './route.ts';
import { UnenforcedPolicies } from './unenforced-policies.ts';
import { Workloads } from './workloads.ts';

const DRAIN_DEADLINE_MS = 5_000;

export interface TunnelOptions {
  node: string;
  version: string;
  zdsSocket: string;
  /** undefined: none */
  adminSocket?: string;
  adminPort?: number;
  readinessPort?: number;
  drainDeadlineMs?: number;
  feed: StateFeed;
  /** of this node; default: the one without a name */
  network?: string;
  issuer: CertificateIssuer;
  /** that is asked for; default a day */
  certificateLifetimeMs?: number;
  /** a logger for a scope, "access" among them */
  logger(scope: string): Logger;
  /** tests' own transport */
  connectZds?: ConnectSeqpacket;
}

export class Tunnel {
  readonly #options: TunnelOptions;
  readonly #log: Logger;
  readonly #state: StateStore;
  readonly #certificates: Certificates;
  readonly #workloads: Workloads<PodProxy>;
  readonly #zds: ZdsClient;
  #synced = false;
  /** closed when the tunnel stops, in this order */
  readonly #watches: { close(): void }[] = [];
  #unix: UnixServer | undefined;
  readonly #servers: Server[] = [];

  constructor(options: TunnelOptions) {
    this.#options = options;
    this.#log = options.logger('tunnel');
    this.#state = new StateStore({ node: options.node, network: options.network ?? '' });
    this.#certificates = new Certificates(options.issuer, options.logger('certificates'), options.certificateLifetimeMs);
    const env: TunnelEnv = {
      state: this.#state,
      certificates: this.#certificates,
      access: new AccessLog(options.logger('access')),
      log: options.logger('proxy'),
      turns: new RoundRobin(),
      know: demanding(options.feed, this.#state),
    };
    this.#workloads = new Workloads(
      (uid, info, netnsFd) => PodProxy.start(env, uid, info, new NetnsSockets(netnsFd, env.log)),
      options.logger('workloads'),
    );
    this.#zds = new ZdsClient(options.zdsSocket, this.#workloads, options.logger('zds'), options.connectZds);
  }

  /** The agent is met only once the mesh is known, so that no pod's first connection has to wait for it. @throws SYSTEM */
  async start(): Promise<void> {
    await this.#openDoors();
    this.#watches.push(new UnenforcedPolicies(this.#state, this.#log), new Prefetch(this.#state, this.#certificates));
    const feed = this.#options.feed.start(this.#state, {
      onSynced: () => {
        this.#synced = true;
        this.#zds.start();
      },
      onError: (error) => {
        this.#log.error({ error: describe(error) }, 'source has faults; the last good state stays in use');
      },
    });
    this.#watches.unshift(feed);
  }

  /** @param deadlineMs for connections to end by themselves; 0 ends them now */
  async stop(deadlineMs = this.#options.drainDeadlineMs ?? DRAIN_DEADLINE_MS): Promise<void> {
    this.#zds.close();
    await this.#workloads.close(deadlineMs);
    for (const watch of this.#watches) watch.close();
    this.#certificates.close();
    for (const server of this.#servers) {
      server.close();
      server.closeAllConnections();
    }
    await this.#unix?.close();
  }

  async #openDoors(): Promise<void> {
    const { adminSocket, adminPort, readinessPort } = this.#options;
    const env: AdminEnv = {
      dump: () => configDump(this.#options, this.#state, this.#certificates, this.#workloads),
      pending: () => [...(this.#synced ? [] : ['state manager']), ...(this.#workloads.ready ? [] : ['workload proxy manager'])],
    };
    if (adminSocket !== undefined) this.#unix = await serveUnix(adminHandler(env), adminSocket);
    if (adminPort !== undefined) await this.#door(() => serveTcp(adminHandler(env), adminPort, '127.0.0.1'));
    if (readinessPort !== undefined) await this.#door(() => serveTcp(readinessHandler(env), readinessPort));
  }

  /** Pods are served even if nobody can ask about it: another tunnel may still hold the port. */
  async #door(open: () => Promise<Server>): Promise<void> {
    try {
      this.#servers.push(await open());
    } catch (error) {
      this.#log.error({ error: describe(error) }, 'admin door stays closed');
    }
  }
}
