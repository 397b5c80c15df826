/** The tunnel's doors for operators: `/config_dump` on a unix socket and on localhost, readiness for the kubelet. HTTP, GET only. */
import type { RequestListener } from 'node:http';
import { routes } from '../sys/doors.ts';

export interface AdminEnv {
  dump(): unknown;
  /** names of what is still to come before the tunnel is ready; empty when it is */
  pending(): string[];
}

export function adminHandler(env: AdminEnv): RequestListener {
  return routes({
    '/config_dump': () => ({ status: 200, type: 'application/json', body: `${JSON.stringify(env.dump(), undefined, 2)}\n` }),
  });
}

export function readinessHandler(env: AdminEnv): RequestListener {
  return routes({
    '/healthz/ready': () => {
      const pending = env.pending();
      const ready = pending.length === 0;
      return { status: ready ? 200 : 500, type: 'text/plain', body: ready ? 'ready\n' : `not ready, pending: ${pending.join(', ')}\n` };
    },
  });
}
