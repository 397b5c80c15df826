/**
 * Whether the kubelet may count on this agent: what `/readyz` says, from the first moment on. A tunnel is no part of it: in a rolling
 * upgrade of both the one would wait for the other.
 */
import type { RequestListener } from 'node:http';
import { routes } from '../sys/doors.ts';

export class Readiness {
  #starting: string | undefined = 'the agent has just started';
  readonly #needs: (() => string | undefined)[] = [];

  /** @param what it is being done now, "installing the datapath" */
  starting(what: string): void {
    this.#starting = what;
  }

  /** All doors are open; from now on only what is needed counts. */
  started(): void {
    this.#starting = undefined;
  }

  /** @param ask why it is not there; undefined when it is */
  needs(ask: () => string | undefined): void {
    this.#needs.push(ask);
  }

  /** Empty: it is ready. */
  get reasons(): string[] {
    if (this.#starting !== undefined) return [`starting: ${this.#starting}`];
    return this.#needs.map((ask) => ask()).filter((reason) => reason !== undefined);
  }
}

/** For the kubelet: nothing that a stranger should not know. */
export function healthDoor(readiness: Pick<Readiness, 'reasons'>): RequestListener {
  return routes({
    '/healthz': () => ({ status: 200, type: 'text/plain', body: 'ok\n' }), // whoever answers lives
    '/readyz': () => {
      const { reasons } = readiness;
      return reasons.length === 0
        ? { status: 200, type: 'text/plain', body: 'ready\n' }
        : { status: 503, type: 'text/plain', body: `not ready: ${reasons.join('; ')}\n` };
    },
  });
}
