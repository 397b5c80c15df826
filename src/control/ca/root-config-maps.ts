/**
 * The roots where pods find them: ConfigMap `istio-ca-root-cert` in every namespace, also kube-system, since tunnels may run there.
 * Written by the replica that leads, put right when somebody edits or deletes one, never touched while it is as it should be.
 */
import { createHash } from 'node:crypto';
import { describe } from '../../base/errors.ts';
import type { Logger } from '../../base/log.ts';
import type { KubeApi } from '../../kubernetes/api.ts';
import { isKubernetes } from '../../kubernetes/errors.ts';
import { Reflector } from '../../kubernetes/reflector.ts';
import type { Authority } from './authority.ts';

export const ROOT_CONFIG_MAP = 'istio-ca-root-cert';
export const ROOT_CONFIG_KEY = 'root-cert.pem';

const CHECK_MS = 5000;
/** Writes under way at once. */
const CONCURRENCY = 8;
/** Two who want different contents would write as fast as they can. */
const PAUSE_MS = 1000;

export interface RootConfigMapsOptions {
  api: KubeApi;
  authority: Authority;
  /** only the one that leads writes */
  isLeader: () => boolean;
  log: Logger;
  /** how often all of them are looked at: after failures, and when the lead is taken over */
  checkMs?: number;
}

export class RootConfigMaps {
  readonly #options: RootConfigMapsOptions;
  /** namespaces that are not being deleted */
  readonly #namespaces = new Set<string>();
  /** namespace → digest of the roots in its ConfigMap */
  readonly #present = new Map<string, string>();
  readonly #written = new Map<string, number>();
  readonly #queue = new Set<string>();
  readonly #parts: { close(): void }[];
  #wanted: string;
  #toSync = 2;
  #running = 0;
  #failing = false;
  #closed = false;

  /** Begins at once. */
  constructor(options: RootConfigMapsOptions) {
    this.#options = options;
    this.#wanted = digestOf(options.authority.roots);
    const timer = setInterval(() => this.#check(), options.checkMs ?? CHECK_MS).unref();
    this.#parts = [
      this.#watch('/api/v1/namespaces', {}, isActive, (name, active) => {
        if (active === true) this.#namespaces.add(name);
        else this.#forget(name);
      }),
      this.#watch('/api/v1/configmaps', { fieldSelector: `metadata.name=${ROOT_CONFIG_MAP}` }, contentOf, (key, digest) => {
        const [namespace = ''] = key.split('/');
        if (digest === undefined) this.#present.delete(namespace);
        else this.#present.set(namespace, digest);
      }),
      options.authority.onChange(() => {
        this.#wanted = digestOf(options.authority.roots);
        this.#check();
      }),
      { close: () => clearInterval(timer) },
    ];
  }

  close(): void {
    this.#closed = true;
    this.#queue.clear();
    for (const part of this.#parts) part.close();
  }

  #watch<T>(
    path: string,
    query: Record<string, string>,
    convert: ConstructorParameters<typeof Reflector<T>>[0]['convert'],
    take: (key: string, value: T | undefined) => void,
  ): Reflector<T> {
    const { api, log } = this.#options;
    const reflector = new Reflector<T>(
      { api, path, query, log, convert },
      {
        onChanges: (changes) => {
          for (const { key, value } of changes) {
            take(key, value);
            this.#consider(key.split('/')[0] ?? '');
          }
        },
        onSynced: () => {
          this.#toSync--;
          this.#check();
        },
        onError: (error) => log.warn({ err: error }, `watch ${path}: ${describe(error)}`),
      },
    );
    reflector.start();
    return reflector;
  }

  #forget(namespace: string): void {
    this.#namespaces.delete(namespace);
    this.#written.delete(namespace);
  }

  #check(): void {
    for (const namespace of this.#namespaces) this.#consider(namespace);
  }

  #consider(namespace: string): void {
    if (this.#toSync > 0 || this.#closed || !this.#options.isLeader() || !this.#isWrong(namespace)) return;
    this.#queue.add(namespace);
    while (this.#running < CONCURRENCY && this.#queue.size > 0) {
      this.#running++;
      void this.#work();
    }
  }

  #isWrong(namespace: string): boolean {
    return this.#namespaces.has(namespace) && this.#present.get(namespace) !== this.#wanted;
  }

  async #work(): Promise<void> {
    for (const namespace of this.#queue) {
      this.#queue.delete(namespace);
      const pause = (this.#written.get(namespace) ?? -Infinity) + PAUSE_MS > performance.now();
      if (pause || !this.#isWrong(namespace)) continue; // the next check comes
      this.#written.set(namespace, performance.now());
      try {
        await this.#write(namespace);
        this.#failing = false;
      } catch (error) {
        this.#failed(namespace, error);
      }
    }
    this.#running--;
  }

  async #write(namespace: string): Promise<void> {
    const { api, authority, log } = this.#options;
    const { roots } = authority;
    const path = `/api/v1/namespaces/${namespace}/configmaps`;
    const data = { [ROOT_CONFIG_KEY]: roots };
    const labels = { 'istio.io/config': 'true' };
    const known = this.#present.has(namespace);
    try {
      if (known) await api.patch(`${path}/${ROOT_CONFIG_MAP}`, { data, metadata: { labels } }, 'merge');
      else await api.create(path, { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: ROOT_CONFIG_MAP, namespace, labels }, data });
    } catch (error) {
      // It came or went a moment ago: the other way then.
      if (known && isKubernetes(error, 404)) this.#present.delete(namespace);
      else if (!known && isKubernetes(error, 409)) this.#present.set(namespace, '');
      else throw error;
      await this.#write(namespace);
      return;
    }
    // What it holds now is told by the watch alone: a deletion meanwhile must not be forgotten.
    log.debug({ namespace }, 'root ConfigMap written');
  }

  /** Once until one succeeds: a thousand namespaces fail for one reason. */
  #failed(namespace: string, error: unknown): void {
    if (this.#closed) return;
    const { log } = this.#options;
    // A namespace that is being deleted takes nothing new; that it is, is told in a moment.
    if (isKubernetes(error, 404) || (isKubernetes(error, 403) && !this.#namespaces.has(namespace))) return;
    log[this.#failing ? 'debug' : 'error']({ err: error, namespace }, `write roots into namespace ${namespace}: ${describe(error)}`);
    this.#failing = true;
  }
}

type Convert<T> = ConstructorParameters<typeof Reflector<T>>[0]['convert'];

const isActive: Convert<boolean> = ({ metadata }) => metadata.deletionTimestamp === undefined;

const contentOf: Convert<string> = (object) => {
  const data = (object['data'] ?? {}) as Record<string, unknown>;
  const roots = data[ROOT_CONFIG_KEY];
  return digestOf(typeof roots === 'string' ? roots : '');
};

function digestOf(roots: string): string {
  return createHash('sha256').update(roots).digest('base64');
}
