/** Permissions as a page of the documentation lists them: what is written there is what a test runs with. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseAllDocuments } from 'yaml';
import type { KubeApi, KubeObject } from '../../../src/kubernetes/api.ts';

const DOCS = join(import.meta.dirname, '../../../docs');
const RBAC = '/apis/rbac.authorization.k8s.io/v1';

export interface Account {
  namespace: string;
  name: string;
}

/** @param page its first YAML block holds the roles: "control.md" */
export async function grantDocumented(api: KubeApi, page: string, account: Account): Promise<void> {
  const [, yaml = ''] = /```yaml\n([\s\S]*?)```/.exec(readFileSync(join(DOCS, page), 'utf8')) ?? [];
  for (const document of parseAllDocuments(yaml)) {
    const role = document.toJS() as KubeObject & { kind: 'Role' | 'ClusterRole' };
    const { name, namespace } = role.metadata;
    const where = namespace === undefined ? RBAC : `${RBAC}/namespaces/${namespace}`;
    const plural = namespace === undefined ? 'cluster' : '';
    await api.create(`${where}/${plural}roles`, role);
    await api.create(`${where}/${plural}rolebindings`, {
      metadata: { name },
      roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: role.kind, name },
      subjects: [{ kind: 'ServiceAccount', ...account }],
    });
  }
}

/** For the certificate of an account: X.509 has no tokens, but the server goes by the name. */
export function subjectOf({ namespace, name }: Account): string {
  return `O=system:serviceaccounts,CN=system:serviceaccount:${namespace}:${name}`;
}
