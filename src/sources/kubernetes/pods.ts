/**
 * The pods of one node as the API tells of them, by name: what is under a name now. A pod made anew under its old name takes the
 * place of the one before.
 */
import { isDeepStrictEqual } from 'node:util';
import type { Change } from '../../kubernetes/reflector.ts';
import type { PodRecord } from '../source.ts';

/** A pod in one of its versions. */
export interface ObservedPod {
  record: PodRecord;
  /** resourceVersion */
  version: string;
}

/** @param version undefined: the pod is gone */
export type OnVersion = (uid: string, version: string | undefined) => void;

export class ObservedPods {
  readonly #byName = new Map<string, ObservedPod>();
  readonly #onVersion: OnVersion;

  constructor(onVersion: OnVersion) {
    this.#onVersion = onVersion;
  }

  /** @returns true when something is not as it was; a new version alone is nothing new */
  apply(changes: readonly Change<ObservedPod>[]): boolean {
    let changed = false;
    for (const { key, value } of changes) {
      const before = this.#byName.get(key);
      if (before !== undefined && before.record.uid !== value?.record.uid) this.#onVersion(before.record.uid, undefined);
      if (value === undefined) {
        changed = this.#byName.delete(key) || changed;
        continue;
      }
      const record = withLastIps(value.record, before?.record);
      const same = before !== undefined && isDeepStrictEqual(before.record, record);
      this.#byName.set(key, { record: same ? before.record : record, version: value.version });
      this.#onVersion(record.uid, value.version);
      changed ||= !same;
    }
    return changed;
  }

  /** @param key "namespace/name" */
  get(key: string): ObservedPod | undefined {
    return this.#byName.get(key);
  }

  *records(): Generator<PodRecord> {
    for (const { record } of this.#byName.values()) yield record;
  }
}

/** Kubernetes takes the addresses off an ended pod's status, before anybody could clean up by them. */
function withLastIps(record: PodRecord, before: PodRecord | undefined): PodRecord {
  const ended = record.phase === 'Succeeded' || record.phase === 'Failed';
  if (!ended || record.ips.length > 0 || before?.uid !== record.uid) return record;
  return { ...record, ips: before.ips };
}
