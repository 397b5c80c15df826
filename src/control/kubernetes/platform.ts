/**
 * Control on Kubernetes: objects, tokens and the root are the API server's. One replica holds the lease and writes (policy status, CA
 * secret, ConfigMaps); all serve.
 */
import { hostname } from 'node:os';
import { randomBytes } from 'node:crypto';
import type { Logger } from '../../base/log.ts';
import { connectKubernetes } from '../../kubernetes/client.ts';
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

/** @throws CERTIFICATE when the CA secret cannot be used, KUBERNETES when the API cannot be asked */
export async function openKubernetes(config: ControlConfig, logger: (scope: string) => Logger): Promise<Platform> {
  const { kubeconfig, namespace, audience, leaseDurationMs: durationMs, rootLifetimeMs, rootOverlapMs: overlapMs } = config;
  const api = connectKubernetes({ fieldManager: FIELD_MANAGER, ...(kubeconfig === undefined ? {} : { kubeconfig }) });
  // The pod's name says who leads; what is random keeps two processes of one name apart.
  const identity = `${hostname()}-${randomBytes(4).toString('hex')}`;
  const lease = new Lease({ api, namespace, name: LEASE, identity, durationMs, log: logger('lease') });
  const isLeader = (): boolean => lease.isLeader();
  const roots = await RootStore.open({ api, namespace, isLeader, rootLifetimeMs, overlapMs, log: logger('ca') });
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
      await statuses.close();
      await lease.close();
    },
  };
}
