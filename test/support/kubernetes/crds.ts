/** The resources of security.istio.io, as much of them as a watcher sees: names, versions, status; any spec is good. */
import type { KubeApi, KubeObject } from '../../../src/kubernetes/api.ts';
import { until } from './until.ts';

const CRDS = '/apis/apiextensions.k8s.io/v1/customresourcedefinitions';
const RESOURCES = { AuthorizationPolicy: 'authorizationpolicies', PeerAuthentication: 'peerauthentications' } as const;

export type PolicyKind = keyof typeof RESOURCES;

const anything = { type: 'object', 'x-kubernetes-preserve-unknown-fields': true };

function crd(kind: PolicyKind, versions: readonly string[]): KubeObject {
  const plural = RESOURCES[kind];
  return {
    apiVersion: 'apiextensions.k8s.io/v1',
    kind: 'CustomResourceDefinition',
    metadata: { name: `${plural}.security.istio.io` },
    spec: {
      group: 'security.istio.io',
      scope: 'Namespaced',
      names: { kind, plural, singular: kind.toLowerCase(), listKind: `${kind}List` },
      versions: versions.map((name, index) => ({
        name,
        served: true,
        storage: index === 0,
        schema: { openAPIV3Schema: { type: 'object', properties: { spec: anything, status: anything } } },
        subresources: { status: {} },
      })),
    },
  };
}

/** Path of a policy's collection in a namespace. */
export function policiesPath(kind: PolicyKind, namespace: string, version = 'v1'): string {
  return `/apis/security.istio.io/${version}/namespaces/${namespace}/${RESOURCES[kind]}`;
}

/** Installs them, and waits until they are served. @param versions the first is the one stored */
export async function applyCrds(api: KubeApi, versions: readonly string[] = ['v1', 'v1beta1']): Promise<void> {
  await Promise.all(
    (Object.keys(RESOURCES) as PolicyKind[]).map(async (kind) => {
      const body = crd(kind, versions);
      await api.patch(`${CRDS}/${body.metadata.name}`, body, 'apply');
      await until(`${kind} to be served`, async () => {
        try {
          await api.list(policiesPath(kind, 'default', versions[0]));
          return true;
        } catch {
          return false;
        }
      });
    }),
  );
}

/** Removes them, and with them every policy; waits until they are gone. */
export async function removeCrds(api: KubeApi): Promise<void> {
  await Promise.all(
    Object.values(RESOURCES).map(async (plural) => {
      const path = `${CRDS}/${plural}.security.istio.io`;
      await api.remove(path);
      await until(`${path} to be gone`, async () => (await api.get(path)) === undefined);
    }),
  );
}
