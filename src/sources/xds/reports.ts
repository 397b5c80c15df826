/** Tells people of what a control plane sent and should not have: each fault once, however often it is sent again. */
import { CulvertError } from '../../base/errors.ts';
import type { Logger } from '../../base/log.ts';
import type { Conversion, ResourceType } from './convert.ts';
import { faultText } from './faults.ts';
import type { Applied } from './mirror.ts';

/** Faults remembered as told. A control plane with more of them is told of anew. */
const MAX_TOLD = 10_000;
/** Names in one line of log; the rest is counted. */
const MAX_NAMED = 20;

export class Reports {
  readonly #log: Logger;
  readonly #onError: (error: Error) => void;
  /** type and name of a refused resource → its faults */
  readonly #told = new Map<string, string>();

  constructor(log: Logger, onError: (error: Error) => void) {
    this.#log = log;
    this.#onError = onError;
  }

  rejected(type: string, rejected: Conversion['rejected']): void {
    const fresh: string[] = [];
    for (const { name, faults } of rejected) {
      const key = `${type} ${name}`;
      const text = faultText(faults);
      if (this.#told.get(key) === text) continue;
      if (this.#told.size >= MAX_TOLD) this.#told.clear();
      this.#told.set(key, text);
      fresh.push(...faults);
    }
    if (fresh.length > 0) this.#onError(new CulvertError('XDS', `apply what the control plane sent: ${faultText(fresh)}`));
  }

  /** Good now, or gone: should it be refused again, that is news. */
  settled(type: ResourceType, names: Iterable<string>): void {
    if (this.#told.size === 0) return;
    for (const name of names) this.#told.delete(`${type} ${name}`);
  }

  applied({ conflicts, unused }: Applied): void {
    const services: string[] = [];
    const workloads: string[] = [];
    for (const { kind, address, owners } of conflicts) {
      (kind === 'service' ? services : workloads).push(`address ${address} is claimed by ${owners[0]} and ${owners[1]}, the first is used`);
    }
    if (services.length > 0) this.#onError(new CulvertError('XDS', `apply what the control plane sent: ${faultText(services)}`));
    // Common for a moment, when an address is given to the next pod before its last one is gone.
    if (workloads.length > 0) this.#log.warn(some(workloads), 'workloads with one address');
    if (unused.length > 0) {
      this.#log.warn(some(unused.map(({ name, what }) => `${name}: ${what}`)), 'resources applied without what this version does not use');
    }
  }
}

function some(texts: readonly string[]): { count: number; first: readonly string[] } {
  return { count: texts.length, first: texts.slice(0, MAX_NAMED) };
}
