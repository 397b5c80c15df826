/** The chart grants what the documentation lists, which is what the cluster ring runs agent and control with: neither less nor more. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { parseAllDocuments } from 'yaml';

const ROOT = join(import.meta.dirname, '../../..');

/** An object, of which roles have rules. */
interface Role {
  kind: string;
  metadata: { name: string; namespace?: string; annotations?: Record<string, string> };
  rules?: { apiGroups: string[]; resources: string[]; resourceNames?: string[]; verbs: string[] }[];
}

const parsed = (text: string): Role[] => parseAllDocuments(text).map((document) => document.toJS() as Role);

/** Roles of a text of YAML documents, as "kind name [in namespace]" and their rules. */
function roles(text: string): Record<string, Role['rules']> {
  const all = parsed(text);
  return Object.fromEntries(
    all
      .filter(({ kind }) => kind === 'ClusterRole' || kind === 'Role')
      .map(({ kind, metadata: { name, namespace }, rules }) => [
        namespace === undefined ? `${kind} ${name}` : `${kind} ${name} in ${namespace}`,
        rules,
      ]),
  );
}

const golden = (file: string): string => readFileSync(join(ROOT, 'test/golden/chart', file), 'utf8');
const objects = (file: string): Role[] => parsed(golden(file));
const rendered = (file: string): Record<string, Role['rules']> => roles(golden(file));

function documented(file: string): Record<string, Role['rules']> {
  const [, yaml = ''] = /```yaml\n(apiVersion: rbac[\s\S]*?)```/.exec(readFileSync(join(ROOT, 'docs', file), 'utf8')) ?? [];
  return roles(yaml);
}

describe('permissions', () => {
  it('of agent and control are the documented ones', () => {
    const { 'Role culvert-leave in culvert-system': _, ...lasting } = rendered('without-istio.yaml');
    expect(lasting).toEqual({ ...documented('kubernetes.md'), ...documented('control.md') });
  });

  it('of an uninstallation are for the agents of this release, and end with it', () => {
    expect(rendered('without-istio.yaml')['Role culvert-leave in culvert-system']).toEqual([
      { apiGroups: ['apps'], resources: ['daemonsets'], resourceNames: ['culvert-node'], verbs: ['get', 'patch'] },
      { apiGroups: [''], resources: ['pods'], verbs: ['list'] },
    ]);
    const hooks = objects('without-istio.yaml').filter(({ metadata }) => metadata.name === 'culvert-leave');
    expect(hooks.map(({ kind, metadata: { annotations } }) => [kind, annotations])).toEqual(
      Object.entries({ ServiceAccount: '-1', Role: '-1', RoleBinding: '-1', Job: '0' }).map(([kind, weight]) => [
        kind,
        {
          'helm.sh/hook': 'pre-delete',
          'helm.sh/hook-weight': weight,
          'helm.sh/hook-delete-policy': 'before-hook-creation,hook-succeeded',
        },
      ]),
    );
    expect(Object.keys(rendered('everything.yaml')), 'uninstall.graceful false').not.toContain('Role culvert-leave in culvert-system');
  });

  it('of control are not there without it', () => {
    expect(Object.keys(rendered('agent-only.yaml'))).toEqual([
      'ClusterRole culvert-node',
      'Role culvert-node in istio-system',
      'Role culvert-leave in istio-system',
    ]);
  });

  it('name no wildcard; Secrets, ConfigMaps and definitions only by name where they are read', () => {
    const all = Object.values(rendered('everything.yaml')).flatMap((rules = []) => rules);
    expect(all.filter(({ apiGroups, resources, verbs }) => [...apiGroups, ...resources, ...verbs].includes('*'))).toEqual([]);
    const byName = ['secrets', 'configmaps', 'customresourcedefinitions'];
    const nameless = all.filter(
      ({ resources, resourceNames }) => resourceNames === undefined && resources.some((each) => byName.includes(each)),
    );
    expect(nameless).toEqual([
      { apiGroups: [''], resources: ['configmaps'], verbs: ['create'] },
      { apiGroups: [''], resources: ['secrets'], verbs: ['create'] },
    ]);
  });
});
