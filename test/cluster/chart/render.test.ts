import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { CHART, helm, KUBE_VERSION, manifests, render, rendered, type Values } from '../../support/helm.ts';
import { installations } from './values.ts';

const GOLDEN = join(import.meta.dirname, '../../golden/chart');

describe('the chart', () => {
  it('has nothing that helm lint minds', async () => {
    const answer = await helm(['lint', CHART, '--strict', '--quiet', '--kube-version', KUBE_VERSION]);
    expect(answer).toMatchObject({ code: 0, stderr: '' });
  });

  it.each(Object.keys(installations))('renders %s', async (name) => {
    const { values, namespace } = installations[name]!;
    await expect(await rendered(values, namespace)).toMatchFileSnapshot(join(GOLDEN, `${name}.yaml`));
  });

  // what istio-cni's platform profiles say
  it.each([
    ['', '/opt/cni/bin', '/etc/cni/net.d', '/var/run/netns'],
    ['gke', '/home/kubernetes/bin', '/etc/cni/net.d', '/var/run/netns'],
    ['k3s', '/var/lib/rancher/k3s/data/cni', '/var/lib/rancher/k3s/agent/etc/cni/net.d', '/var/run/netns'],
    ['k3d', '/bin', '/var/lib/rancher/k3s/agent/etc/cni/net.d', '/var/run/netns'],
    ['microk8s', '/var/snap/microk8s/current/opt/cni/bin', '/var/snap/microk8s/current/args/cni-network', '/var/run/netns'],
    ['minikube', '/opt/cni/bin', '/etc/cni/net.d', '/var/run/docker/netns'],
    ['openshift', '/var/lib/cni/bin', '/etc/cni/multus/net.d', '/var/run/netns'],
  ])('knows the paths of platform "%s"', async (platform, cniBinDir, cniConfDir, cniNetnsDir) => {
    const objects = manifests(await rendered({ global: { platform } }));
    const config = parse((named(objects, 'ConfigMap', 'culvert-node')['data'] as Record<string, string>)['config.yaml']!) as object;
    expect(config).toMatchObject({ cniBinDir, cniConfDir });
    expect(hostPaths(objects)).toMatchObject({ 'cni-bin': cniBinDir, 'cni-conf': cniConfDir, netns: cniNetnsDir });
    expect(objects.filter(({ kind }) => kind === 'ResourceQuota')).toHaveLength(platform === 'gke' ? 1 : 0);
    // Multus: a network of our own beside the others
    expect(config).toHaveProperty('chained', platform !== 'openshift');
    expect(objects.filter(({ kind }) => kind === 'NetworkAttachmentDefinition')).toHaveLength(platform === 'openshift' ? 1 : 0);
  });
});

describe('on OpenShift', () => {
  /** Accounts of the release's namespace that may use a SecurityContextConstraints. */
  async function constraints(values: Values): Promise<Record<string, string[]>> {
    const objects = manifests(await rendered({ global: { platform: 'openshift' }, ...values })) as unknown as Rbac[];
    const ofRole = (name: string): string[] =>
      objects
        .filter(({ kind, metadata }) => /^(Cluster)?Role$/.test(kind) && metadata.name === name)
        .flatMap(({ rules = [] }) => rules)
        .filter(({ resources }) => resources.includes('securitycontextconstraints'))
        .flatMap(({ resourceNames = [] }) => resourceNames);
    const bound = objects.flatMap(({ roleRef, subjects = [] }) =>
      subjects.flatMap(({ name }) => ofRole(roleRef?.name ?? '').map((constraint): [string, string[]] => [name, [constraint]])),
    );
    return Object.fromEntries(bound);
  }

  it('each account may have what its pods ask for', async () => {
    expect(await constraints({})).toMatchObject({
      'culvert-node': ['privileged'],
      ztunnel: ['privileged'],
      'culvert-control': ['nonroot-v2'],
    });
    const agentOnly = Object.keys(await constraints({ tunnel: { builtin: { enabled: false } }, control: { enabled: false } }));
    expect(agentOnly).toContain('culvert-node');
    expect(agentOnly).not.toContain('ztunnel');
    expect(agentOnly).not.toContain('culvert-control');
    expect(await constraints({ global: { platform: '' } })).toEqual({});
  });
});

describe('values', () => {
  it('of lists that are there without an item, which YAML takes for null, are empty', async () => {
    const objects = manifests(await rendered({ excludeNamespaces: null, control: { nodeAccounts: null, servingNames: null } }));
    const config = (name: string): unknown =>
      parse((named(objects, 'ConfigMap', name)['data'] as Record<string, string>)['config.yaml']!) as unknown;
    expect(config('culvert-node')).toMatchObject({ excludedNamespaces: [] });
    expect(config('culvert-control')).toMatchObject({ nodeAccounts: ['culvert-system/ztunnel'], servingNames: [] });
  });

  const refusals: [values: Values, message: string][] = [
    [{ ambient: { dnscapture: true } }, "at '/ambient': additional properties 'dnscapture' not allowed"],
    [{ tunel: { builtin: { enabled: false } } }, "at '': additional properties 'tunel' not allowed"],
    [{ tunnel: { builtin: { enable: false } } }, "at '/tunnel/builtin': additional properties 'enable' not allowed"],
    [{ global: { platfrom: 'gke' } }, "at '/global': additional properties 'platfrom' not allowed"],
    [{ tolerations: [{ key: 'a', efect: 'NoSchedule' }] }, "at '/tolerations/0': additional properties 'efect' not allowed"],
    [{ ambient: { reconcileIptablesOnStartup: true } }, "at '/ambient': additional properties 'reconcileIptablesOnStartup' not allowed"],
    [{ chained: 'no' }, "at '/chained': value must be one of '', true, false"],
    [{ cniBinDir: 'opt/cni/bin' }, "at '/cniBinDir': 'opt/cni/bin' does not match pattern"],
    [{ control: { replicas: 'two' } }, "at '/control/replicas': got string, want integer"],
    [{ control: { replicas: 0 } }, "at '/control/replicas': minimum: got 0, want 1"],
    [{ global: { platform: 'eks' } }, "at '/global/platform': value must be one of '', 'gke'"],
    [{ healthPort: 70000 }, "at '/healthPort': maximum: got 70,000, want 65,535"],
    [{ onAgentDown: 'ignore' }, "at '/onAgentDown': value must be one of 'closed', 'known', 'open'"],
    [{ tunnel: { builtin: { xdsAddress: 'istiod:15012' } } }, "at '/tunnel/builtin/xdsAddress': 'istiod:15012' does not match pattern"],
    [{ excludeNamespaces: 'kube-system' }, "at '/excludeNamespaces': got string, want array"],
    [{ env: { 'NO-NAME': 'x' } }, "at '/env': additional properties 'NO-NAME' not allowed"],
  ];
  it.each(refusals)('refuses %j', async (values, message) => {
    const { code, stdout, stderr } = await render(values);
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
    expect(stderr).toContain(message);
  });

  it('have an effect, each of them', async () => {
    const all = installations['everything']!.values;
    const whole = await rendered(all);
    const without = await Promise.all(leaves(all).map(async (path) => ({ path, text: await rendered(reset(all, path)) })));
    expect(without.filter(({ text }) => text === whole).map(({ path }) => path.join('.'))).toEqual([]);
  });

  it('are all tried: those without an entry in "everything" are', () => {
    const defaults = leaves(parse(readFileSync(join(CHART, 'values.yaml'), 'utf8')) as Values).map((path) => path.join('.'));
    const tried = leaves(installations['everything']!.values).map((path) => path.join('.'));
    const untried = defaults.filter(
      (name) => !tried.some((other) => other === name || other.startsWith(`${name}.`) || name.startsWith(other)),
    );
    // they choose the kind of installation, which has golden files of its own; the agent's type is tried
    expect(untried).toEqual([
      'tunnel.builtin.enabled',
      'tunnel.builtin.istioNamespace',
      'tunnel.builtin.revision',
      'tunnel.builtin.updateStrategy.type',
      'tunnel.external.namespace',
      'control.enabled',
    ]);
  });
});

interface Rbac {
  kind: string;
  metadata: { name: string };
  rules?: { resources: string[]; resourceNames?: string[] }[];
  roleRef?: { name: string };
  subjects?: { name: string }[];
}

function named(objects: ReturnType<typeof manifests>, kind: string, name: string): ReturnType<typeof manifests>[number] {
  return objects.find((object) => object.kind === kind && object.metadata.name === name)!;
}

/** Volumes of the agent that are directories of the node, by name. */
function hostPaths(objects: ReturnType<typeof manifests>): Record<string, string> {
  const { spec } = named(objects, 'DaemonSet', 'culvert-node') as unknown as {
    spec: { template: { spec: { volumes: { name: string; hostPath?: { path: string } }[] } } };
  };
  return Object.fromEntries(
    spec.template.spec.volumes.flatMap(({ name, hostPath }) => (hostPath === undefined ? [] : [[name, hostPath.path]])),
  );
}

/** Paths of everything below that is no object with keys. */
function leaves(values: Values, at: string[] = []): string[][] {
  return Object.entries(values).flatMap(([name, value]) =>
    typeof value === 'object' && value !== null && !Array.isArray(value) && Object.keys(value).length > 0
      ? leaves(value as Values, [...at, name])
      : [[...at, name]],
  );
}

/** Without one value, which has its default again. */
function reset(values: Values, [name = '', ...rest]: string[]): Values {
  const { [name]: value, ...others } = values;
  return rest.length === 0 ? others : { ...others, [name]: reset(value as Values, rest) };
}
