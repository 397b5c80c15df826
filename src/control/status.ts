/** How control is: `/status` for people, `/healthz` and `/readyz` for the kubelet. */
import type { RequestListener } from 'node:http';
import { routes } from '../sys/doors.ts';
import type { AdsCounters } from './ads/counters.ts';
import type { AdsSession } from './ads/stream.ts';
import type { Cluster } from './cluster.ts';

export interface ControlStatus {
  version: string;
  cluster: Cluster['kind'];
  port: number;
  synced: boolean;
  leader: boolean;
  resources: { address: number; authorization: number };
  /** serial number of the certificate that signs */
  ca: { signer: string };
  counters: Readonly<AdsCounters>;
  sessions: AdsSession[];
  /** bytes, as Node counts them */
  memory: NodeJS.MemoryUsage;
}

export interface Statable {
  readonly ready: boolean;
  status(): ControlStatus;
}

/** For the kubelet: nothing that a stranger should not know. */
export function readiness(control: Pick<Statable, 'ready'>): RequestListener {
  return routes(health(control));
}

export function admin(control: Statable): RequestListener {
  return routes({
    ...health(control),
    '/status': () => ({ status: 200, type: 'application/json', body: `${JSON.stringify(control.status(), undefined, 2)}\n` }),
  });
}

function health(control: Pick<Statable, 'ready'>): Parameters<typeof routes>[0] {
  return {
    '/healthz': () => ({ status: 200, type: 'text/plain', body: 'ok\n' }),
    '/readyz': () =>
      control.ready
        ? { status: 200, type: 'text/plain', body: 'ready\n' }
        : { status: 503, type: 'text/plain', body: 'not ready: the cluster is not known yet\n' },
  };
}
