/**
 * The Kubernetes API over HTTPS: requests and watches by path, answers as parsed JSON and nothing more (classes for 10,000 pods are
 * too dear). Connections are kept alive, each request has a deadline; trying again is the caller's business.
 */
import type { KubeApi, KubeObject, ObjectPage } from './api.ts';
import { Credentials, type CredentialsOptions } from './credentials.ts';
import { isKubernetes, KubernetesError } from './errors.ts';
import { HttpExchange, type HttpRequest } from './http.ts';
import { isRecord } from './json.ts';
import { watchPath } from './watch.ts';

const DEADLINE_MS = 30_000;
const LIST_DEADLINE_MS = 60_000;

const PATCHES = {
  merge: 'application/merge-patch+json',
  strategic: 'application/strategic-merge-patch+json',
  json: 'application/json-patch+json',
  apply: 'application/apply-patch+yaml', // JSON is YAML
} as const;

export interface KubernetesOptions extends CredentialsOptions {
  /** whose fields ours are, in every write */
  fieldManager: string;
}

/** Nothing is read or connected before the first request. `close` fails the requests that wait for an answer, and all further ones. */
export function connectKubernetes(options: KubernetesOptions): KubeApi & { close(): void } {
  const http = new HttpExchange(new Credentials(options));
  const { fieldManager } = options;
  const object = async (request: HttpRequest, deadlineMs = DEADLINE_MS): Promise<KubeObject> => {
    const answer = await http.json(request, deadlineMs);
    if (!isRecord(answer)) throw new KubernetesError(`${request.verb} ${request.path}: the answer is no object`, { status: 0 });
    return answer as unknown as KubeObject;
  };

  return {
    get: (path) => object({ verb: 'get', method: 'GET', path }).catch(absent),
    create: (path, body) => object({ verb: 'create', method: 'POST', path, query: { fieldManager }, body }),
    replace: (path, body) => object({ verb: 'replace', method: 'PUT', path, query: { fieldManager }, body }),
    patch: (path, body, kind, deadlineMs) => {
      const query = { fieldManager, ...(kind === 'apply' ? { force: 'true' } : {}) };
      return object({ verb: 'patch', method: 'PATCH', path, query, body, contentType: PATCHES[kind] }, deadlineMs);
    },
    async remove(path) {
      await http.json({ verb: 'delete', method: 'DELETE', path }, DEADLINE_MS).catch(absent);
    },
    async list(path, query = {}, signal) {
      return page(path, await http.json({ verb: 'list', method: 'GET', path, query }, LIST_DEADLINE_MS, signal));
    },
    watch: (...watch) => watchPath(http, ...watch),
    close: () => http.close(),
  };
}

function absent(error: unknown): undefined {
  if (isKubernetes(error, 404)) return undefined;
  throw error;
}

function page(path: string, answer: unknown): ObjectPage {
  const { items, metadata } = isRecord(answer) ? answer : {};
  const { resourceVersion, continue: next } = isRecord(metadata) ? metadata : {};
  // A list without items may come as null.
  if (typeof resourceVersion !== 'string' || (!Array.isArray(items) && items !== undefined && items !== null))
    throw new KubernetesError(`list ${path}: the answer is no list`, { status: 0 });
  const list: ObjectPage = { items: (items ?? []) as KubeObject[], resourceVersion };
  if (typeof next === 'string' && next !== '') list.continue = next;
  return list;
}
