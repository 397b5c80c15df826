/** The API server, and what our account may do there: asked of the server itself. */
import type { KubeApi } from '../../kubernetes/api.ts';
import { Fault } from './check.ts';

export interface Permission {
  verb: string;
  group: string;
  resource: string;
  subresource?: string;
  namespace?: string;
  name?: string;
  /** what stops working without it */
  reason: string;
}

/** @param daemonSet "namespace/name" */
export function neededPermissions(daemonSet: string | undefined): Permission[] {
  const core = { group: '' };
  const [namespace = '', name = ''] = daemonSet?.split('/') ?? [];
  return [
    ...['list', 'watch'].flatMap((verb) => [
      { ...core, verb, resource: 'pods', reason: 'which pods there are' },
      { ...core, verb, resource: 'namespaces', reason: 'their labels' },
    ]),
    { ...core, verb: 'patch', resource: 'pods', subresource: 'status', reason: 'the annotation by which peers know' },
    ...['create', 'patch'].map((verb) => ({ ...core, verb, resource: 'events', reason: 'events on pods that cannot join' })),
    ...(daemonSet === undefined
      ? []
      : [
          { group: 'apps', verb: 'get', resource: 'daemonsets', namespace, name, reason: 'whether an agent comes after this one' },
          { ...core, verb: 'get', resource: 'nodes', reason: 'whether the DaemonSet is still meant for this node' },
        ]),
  ];
}

export async function lookAtApiServer(api: Pick<KubeApi, 'create'>, permissions: readonly Permission[]): Promise<string> {
  const answers = await Promise.all(permissions.map(async (permission) => ({ permission, allowed: await isAllowed(api, permission) })));
  const refused = answers.filter(({ allowed }) => !allowed).map(({ permission }) => permission);
  if (refused.length === 0) return `reachable, ${answers.length} permissions granted`;
  const list = refused.map(
    ({ verb, resource, subresource, reason }) => `${verb} ${resource}${subresource === undefined ? '' : `/${subresource}`} (${reason})`,
  );
  throw new Fault(`not allowed: ${list.join(', ')}`, "grant the account of the agent's pod the chart's ClusterRole and Role");
}

async function isAllowed(api: Pick<KubeApi, 'create'>, { reason: _, ...resourceAttributes }: Permission): Promise<boolean> {
  const { status } = await api.create('/apis/authorization.k8s.io/v1/selfsubjectaccessreviews', {
    apiVersion: 'authorization.k8s.io/v1',
    kind: 'SelfSubjectAccessReview',
    metadata: { name: '' },
    spec: { resourceAttributes },
  });
  return (status as { allowed?: boolean } | undefined)?.allowed === true;
}
