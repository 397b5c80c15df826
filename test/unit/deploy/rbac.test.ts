/** The chart grants what the documentation lists, which is what the cluster ring runs agent and control with: neither less nor more. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { parseAllDocuments } from 'yaml';

const ROOT = join(import.meta.dirname, '../../..');

interface Role {
  kind: string;
  metadata: { name: string; namespace?: string };
  rules?: { apiGroups: string[]; resources: string[]; resourceNames?: string[]; verbs: string[] }[];
}

/** Roles of a text of YAML documents, as "kind name [in namespace]" and their rules. */
function roles(text: string): Record<string, Role['rules']> {
  const all = parseAllDocuments(text).map((document) => document.toJS() as Role);
  return Object.fromEntries(
    all
      .filter(({ kind }) => kind === 'ClusterRole' || kind === 'Role')
      .map(({ kind, metadata: { name, namespace }, rules }) => [
        namespace === undefined ? `${kind} ${name}` : `${kind} ${name} in ${namespace}`,
        rules,
      ]),
  );
}

const rendered = (file: string): Record<string, Role['rules']> => roles(readFileSync(join(ROOT, 'test/golden/chart', file), 'utf8'));

function documented(file: string): Record<string, Role['rules']> {
  const [, yaml = ''] = /```yaml\n(apiVersion: rbac[\s\S]*?)```/.exec(readFileSync(join(ROOT, 'docs', file), 'utf8')) ?? [];
  return roles(yaml);
}

describe('permissions', () => {
  it('of agent and control are the documented ones', () => {
    expect(rendered('without-istio.yaml')).toEqual({ ...documented('kubernetes.md'), ...documented('control.md') });
  });

  it('of control are not there without it', () => {
    expect(Object.keys(rendered('agent-only.yaml'))).toEqual(['ClusterRole culvert-node', 'Role culvert-node in istio-system']);
  });

  it('name no wildcard, and Secrets only by name where they are read', () => {
    const all = Object.values(rendered('everything.yaml')).flatMap((rules = []) => rules);
    expect(all.filter(({ apiGroups, resources, verbs }) => [...apiGroups, ...resources, ...verbs].includes('*'))).toEqual([]);
    expect(all.filter(({ resources, resourceNames }) => resources.includes('secrets') && resourceNames === undefined)).toEqual([
      { apiGroups: [''], resources: ['secrets'], verbs: ['create'] },
    ]);
  });
});
