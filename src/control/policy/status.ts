/**
 * Tells people what becomes of their policies, on the policies themselves: a condition where the kind has a status, else an Event
 * for what is not sent as written. One replica writes, one write at a time, only what is not there already.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, isCulvert } from '../../base/errors.ts';
import type { Logger } from '../../base/log.ts';
import type { KubeApi } from '../../kubernetes/api.ts';
import { isKubernetes } from '../../kubernetes/errors.ts';
import { conditionsWith, eventOf } from './condition.ts';
import type { PolicyRef, PolicyReport, Verdict } from './report.ts';

const GROUP = '/apis/security.istio.io';
const PLURALS: Record<PolicyRef['kind'], string> = {
  AuthorizationPolicy: 'authorizationpolicies',
  PeerAuthentication: 'peerauthentications',
};
/** Then it waits for the next report, or for the next leader. */
const MAX_ATTEMPTS = 10;
const MAX_DELAY_MS = 30_000;

export interface PolicyStatusOptions {
  api: KubeApi;
  isLeader: () => boolean;
  log: Logger;
  /** wait before the second attempt, doubled each time, up to 30 s */
  firstDelayMs?: number;
}

interface Report {
  policy: PolicyRef;
  verdict: Verdict;
}

export class PolicyStatusWriter {
  readonly #o: Required<PolicyStatusOptions>;
  /** what is to be read on every policy, by "kind namespace/name" */
  readonly #reports = new Map<string, Report>();
  /** to be written, with the attempts made; in order */
  readonly #due = new Map<string, number>();
  readonly #closed = new AbortController();
  #writing: Promise<void> | undefined;

  constructor(options: PolicyStatusOptions) {
    this.#o = { firstDelayMs: 500, ...options };
  }

  report(reports: readonly PolicyReport[]): void {
    for (const { policy, verdict } of reports) {
      const id = `${policy.kind} ${policy.namespace}/${policy.name}`;
      if (verdict === undefined) {
        this.#reports.delete(id);
        this.#due.delete(id);
      } else {
        this.#reports.set(id, { policy, verdict });
        this.#due.set(id, 0);
      }
    }
    this.#write();
  }

  /** To be called when leadership comes or goes. */
  leaderChanged(): void {
    if (this.#o.isLeader()) for (const id of this.#reports.keys()) this.#due.set(id, 0);
    this.#write();
  }

  /** Ends after the write that is under way. */
  async close(): Promise<void> {
    this.#closed.abort();
    await this.#writing;
  }

  #write(): void {
    if (!this.#o.isLeader()) this.#due.clear();
    if (this.#due.size === 0 || this.#writing !== undefined || this.#closed.signal.aborted) return;
    this.#writing = this.#drain().finally(() => {
      this.#writing = undefined;
      this.#write(); // what came between the last look and now
    });
  }

  /** Never rejects. */
  async #drain(): Promise<void> {
    let versions: readonly string[] | undefined;
    for (const [id, attempts] of this.#due) {
      if (this.#closed.signal.aborted || !this.#o.isLeader()) return;
      this.#due.delete(id); // before it is read, so that a report that comes meanwhile is written after it
      const report = this.#reports.get(id);
      if (report === undefined) continue;
      try {
        // Asked once per burst: an operator may serve another version any day.
        versions ??= await this.#servedVersions();
        await this.#tell(report, versions);
      } catch (error) {
        await this.#again(id, attempts + 1, error);
      }
    }
  }

  /** Best first; none when the CRDs are gone, and the policies with them. */
  async #servedVersions(): Promise<string[]> {
    const group = await this.#o.api.get(GROUP);
    const versions = Array.isArray(group?.['versions']) ? (group['versions'] as { version?: unknown }[]) : [];
    return versions.flatMap(({ version }) => (typeof version === 'string' ? [version] : []));
  }

  async #tell({ policy, verdict }: Report, versions: readonly string[]): Promise<void> {
    const { kind, namespace, name, uid, generation } = policy;
    for (const version of versions) {
      const path = `${GROUP}/${version}/namespaces/${namespace}/${PLURALS[kind]}/${name}`;
      const object = await this.#o.api.get(path);
      if (object === undefined) continue; // gone, or its kind is served in another version only
      if (object.metadata.uid !== uid) return; // another of the same name, which has its own report to come
      const conditions = conditionsWith(verdict, { object, generation, now: new Date() });
      if (conditions === undefined) return;
      const written = await this.#condition(path, { resourceVersion: object.metadata.resourceVersion, conditions });
      if (!written && !verdict.ok) await this.#event({ policy, verdict }, `security.istio.io/${version}`);
      return;
    }
  }

  /** @returns false when the kind keeps no status, or the object went meanwhile */
  async #condition(
    path: string,
    { resourceVersion, conditions }: { resourceVersion: string | undefined; conditions: unknown[] },
  ): Promise<boolean> {
    // The list is replaced as a whole: the version keeps out what another writer put in since.
    const body = { metadata: resourceVersion === undefined ? {} : { resourceVersion }, status: { conditions } };
    try {
      await this.#o.api.patch(`${path}/status`, body, 'merge');
      return true;
    } catch (error) {
      if (isKubernetes(error, 404) || isKubernetes(error, 405)) return false;
      throw error;
    }
  }

  async #event({ policy, verdict }: Report, apiVersion: string): Promise<void> {
    const event = eventOf(policy, verdict, { apiVersion, now: new Date() });
    try {
      await this.#o.api.create(`/api/v1/namespaces/${policy.namespace}/events`, event);
    } catch (error) {
      if (!isKubernetes(error, 404) && !(isKubernetes(error, 409) && error.reason === 'AlreadyExists')) throw error; // 404: the namespace is gone
    }
  }

  async #again(id: string, attempts: number, error: unknown): Promise<void> {
    const retry = isCulvert(error) && error.retryable && attempts < MAX_ATTEMPTS;
    const fields = { policy: id, error: describe(error), attempts };
    if (!retry) {
      this.#o.log.warn(fields, 'status of policy not written');
      return;
    }
    this.#o.log.debug(fields, 'status of policy not written yet');
    if (!this.#due.has(id)) this.#due.set(id, attempts); // a newer report starts anew
    const delay = Math.min(this.#o.firstDelayMs * 2 ** (attempts - 1), MAX_DELAY_MS) * (0.5 + Math.random() / 2);
    await sleep(delay, undefined, { ref: false, signal: this.#closed.signal }).catch(() => undefined);
  }
}
