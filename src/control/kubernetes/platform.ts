/**
 * Control on Kubernetes: objects, tokens and the root are the API server's. One replica holds the lease and writes (policy status, CA
 * secret, ConfigMaps); all serve.
 */
import { hostname } from 'node:os';
import { randomBytes } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { describe } from '../../base/errors.ts';
import type { Logger } from '../../base/log.ts';
import { Backoff } from '../../kubernetes/backoff.ts';
import { connectKubernetes } from '../../kubernetes/client.ts';
import { NO_CREDENTIALS, isKubernetes } from '../../kubernetes/errors.ts';
import { Lease } from '../../kubernetes/lease.ts';
import { accountLookup } from '../ca/inventory.ts';
import { RootConfigMaps } from '../ca/root-config-maps.ts';
import { RootStore } from '../ca/root-store.ts';
import { TokenReviewAuthenticator } from '../ca/token-review.ts';
import type { ControlConfig } from '../config.ts';
import type { Platform } from '../platform.ts';
import { PolicyStatusWriter } from '../policy/status.ts';
import { createKubernetesCluster } from './cluster.ts';

const FIELD_MANAGER = 'culvert-control';
const LEASE = 'culvert-control';
/** for the write that is under way at the end */
const PATIENCE_MS = 5_000;

/**
 * An API server that is away, or refuses, is waited for.
 * @param signal ends the waiting
 * @throws CERTIFICATE when the CA secret cannot be used, KUBERNETES without credentials, or when the signal came
 */
export async function openKubernetes(config: ControlConfig, logger: (scope: string) => Logger, signal: AbortSignal): Promise<Platform> {
  const { kubeconfig, namespace, audience, leaseDurationMs: durationMs, rootLifetimeMs, rootOverlapMs: overlapMs } = config;
  const api = connectKubernetes({ fieldManager: FIELD_MANAGER, ...(kubeconfig === undefined ? {} : { kubeconfig }) });
  // The pod's name says who leads; what is random keeps two processes of one name apart.
  const identity = `${hostname()}-${randomBytes(4).toString('hex')}`;
  const lease = new Lease({ api, namespace, name: LEASE, identity, durationMs, log: logger('lease') });
  const isLeader = (): boolean => lease.isLeader();
  const abort = (): void => api.close();
  signal.addEventListener('abort', abort);
  const roots = await whenThere(
    () => RootStore.open({ api, namespace, isLeader, rootLifetimeMs, overlapMs, log: logger('ca') }),
    logger('kubernetes'),
    signal,
  ).finally(() => signal.removeEventListener('abort', abort));
  const statuses = new PolicyStatusWriter({ api, isLeader, log: logger('policy') });
  const watch = lease.onChange(() => statuses.leaderChanged());
  let configMaps: RootConfigMaps | undefined;
  return {
    cluster: createKubernetesCluster({ api, log: logger('kubernetes') }),
    authenticator: new TokenReviewAuthenticator({ api, audience }),
    roots,
    lookup: accountLookup(api),
    isLeader,
    begin(authority) {
      configMaps = new RootConfigMaps({ api, authority, isLeader, log: logger('ca') });
      lease.start();
    },
    report: (reports) => statuses.report(reports),
    async close() {
      watch();
      configMaps?.close();
      roots.close();
      await Promise.race([statuses.close(), delay(PATIENCE_MS, undefined, { ref: false })]);
      await lease.close();
      api.close(); // nobody waits for a server that is away
    },
  };
}

/**
 * Not left to kubelet, whose pauses between restarts grow to minutes. Refusals are waited out as well: a server that is just starting
 * forbids everything until it knows its roles, and permissions may come after the Deployment.
 */
async function whenThere<T>(open: () => Promise<T>, log: Logger, signal: AbortSignal): Promise<T> {
  const backoff = new Backoff();
  for (let said: number | undefined; ;) {
    try {
      return await open();
    } catch (error) {
      // Without credentials there is nobody to wait for.
      if (signal.aborted || !isKubernetes(error) || error.reason === NO_CREDENTIALS) throw error;
      const level = error.status === said ? 'debug' : 'error';
      log[level]({ error: describe(error) }, 'the Kubernetes API does not answer as it should: waiting for it');
      said = error.status;
    }
    await backoff.wait(signal);
  }
}
