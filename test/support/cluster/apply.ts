/** Objects of any kind put on the server, as `kubectl apply --server-side` does: which path a kind has is asked of the server. */
import { parseAllDocuments } from 'yaml';
import type { KubeApi, KubeObject } from '../../../src/kubernetes/api.ts';
import { isKubernetes } from '../../../src/kubernetes/errors.ts';
import { until } from '../kubernetes/until.ts';

interface ApiResource {
  name: string;
  kind: string;
  namespaced: boolean;
}

const PATIENCE_MS = 20_000;

/** @param text documents of YAML; empty ones are fine */
export function parseObjects(text: string): KubeObject[] {
  return parseAllDocuments(text).flatMap((document) => {
    if (document.errors[0] !== undefined) throw document.errors[0];
    const object = document.toJS() as KubeObject | null;
    return object === null ? [] : [object];
  });
}

export class Applier {
  readonly #api: KubeApi;
  readonly #resources = new Map<string, readonly ApiResource[]>();

  constructor(api: KubeApi) {
    this.#api = api;
  }

  /** One after the other, so that a namespace or a definition may come before what needs it. @returns what the server has now */
  async apply(objects: readonly KubeObject[]): Promise<KubeObject[]> {
    const applied: KubeObject[] = [];
    for (const object of objects) applied.push(await this.#applyOne(object));
    return applied;
  }

  /** "/apis/apps/v1/namespaces/kube-system/deployments/coredns" */
  async pathOf({ apiVersion = 'v1', kind = '', metadata }: KubeObject): Promise<string> {
    const root = apiVersion === 'v1' ? '/api/v1' : `/apis/${apiVersion}`;
    let found = await this.#resource(root, kind);
    // A definition that came just before is served a moment later.
    await until(
      `kind ${kind} of ${apiVersion} to be served`,
      async () => (found ??= await this.#resource(root, kind)) !== undefined,
      PATIENCE_MS,
    );
    const { name: plural, namespaced } = found!;
    return namespaced
      ? `${root}/namespaces/${metadata.namespace ?? 'default'}/${plural}/${metadata.name}`
      : `${root}/${plural}/${metadata.name}`;
  }

  async #applyOne(object: KubeObject): Promise<KubeObject> {
    const path = await this.pathOf(object);
    let applied: KubeObject | undefined;
    await until(
      `${path} to be accepted`,
      async () => {
        try {
          applied = await this.#api.patch(path, object, 'apply');
          return true;
        } catch (error) {
          // Pods of a new namespace are forbidden until its account is there.
          if (isKubernetes(error, 403) && /serviceaccount/.test((error as Error).message)) return false;
          throw error;
        }
      },
      PATIENCE_MS,
    );
    return applied!;
  }

  async #resource(root: string, kind: string): Promise<ApiResource | undefined> {
    const match = (resources: readonly ApiResource[]): ApiResource | undefined =>
      resources.find((resource) => resource.kind === kind && !resource.name.includes('/'));
    const known = match(this.#resources.get(root) ?? []);
    if (known !== undefined) return known;
    const answer = (await this.#api.get(root)) as { resources?: ApiResource[] } | undefined;
    const resources = answer?.resources ?? [];
    this.#resources.set(root, resources);
    return match(resources);
  }
}
