/** The chart on a real API server: installed, upgraded and taken off again by helm itself. No controllers here: objects only. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createLogger } from '../../../src/base/log.ts';
import { askDaemonSet } from '../../../src/install/daemon-set.ts';
import type { KubeApi, KubeObject } from '../../../src/kubernetes/api.ts';
import { connectKubernetes } from '../../../src/kubernetes/client.ts';
import { startApiServer, type ApiServer } from '../../support/apiserver.ts';
import { CHART, helm, manifests, rendered, type Values } from '../../support/helm.ts';
import { TOKEN_ISSUER } from '../../support/kubernetes/tokens.ts';
import { until } from '../../support/kubernetes/until.ts';
import { installations } from './values.ts';

const NAMESPACE = 'culvert-system';

let server: ApiServer;
beforeAll(async () => {
  server = await startApiServer();
  for (const name of [NAMESPACE, 'istio-system', 'shop']) await server.createNamespace(name);
});
afterAll(() => server.close());

/** Collection of an object: "/apis/apps/v1/namespaces/x/daemonsets". */
function collection({ apiVersion = '', kind, metadata }: KubeObject & { kind: string }): string {
  const plural = `${kind.toLowerCase()}s`;
  const group = apiVersion.includes('/') ? `/apis/${apiVersion}` : `/api/${apiVersion}`;
  return metadata.namespace === undefined ? `${group}/${plural}` : `${group}/namespaces/${metadata.namespace}/${plural}`;
}

/** Nobody runs the Job of an uninstallation here: leave.test.ts has what it does. @throws when helm refuses */
async function release(verb: 'install' | 'upgrade' | 'uninstall', values?: Values): Promise<void> {
  const args = verb === 'uninstall' ? ['uninstall', 'culvert', '--no-hooks'] : [verb, 'culvert', CHART];
  const { code, stderr } = await helm([...args, '--namespace', NAMESPACE], { kubeconfig: server.kubeconfig, ...(values && { values }) });
  if (code !== 0) throw new Error(`helm ${verb}: ${stderr}`);
}

/** What there is of the kinds that the chart makes, "kind/name"; Helm keeps its own record in a secret. */
async function present(): Promise<string[]> {
  const objects = manifests(await rendered());
  const collections = new Map([
    ...objects.map((object) => [collection(object), object.kind] as const),
    [`/api/v1/namespaces/${NAMESPACE}/secrets`, 'Secret'],
  ]);
  const found = await Promise.all(
    [...collections].map(async ([path, kind]) =>
      (await server.adminApi.list(path)).items.map(({ metadata }) => `${kind}/${metadata.name}`),
    ),
  );
  return found.flat().filter((name) => !/\/(system:|cluster-admin|admin$|edit$|view$|default$)/.test(name));
}

/** The API as one part's pod reaches it, with a token of its account. */
async function asAccount(name: string): Promise<KubeApi> {
  const kubeconfig = join(server.dir, `${name}.kubeconfig`);
  const config = {
    apiVersion: 'v1',
    kind: 'Config',
    'current-context': name,
    contexts: [{ name, context: { cluster: name, user: name } }],
    clusters: [{ name, cluster: { server: server.url, 'certificate-authority': join(server.dir, 'ca.crt') } }],
    users: [{ name, user: { token: await server.token(NAMESPACE, name, { audience: TOKEN_ISSUER }) } }],
  };
  writeFileSync(kubeconfig, JSON.stringify(config));
  return connectKubernetes({ kubeconfig, fieldManager: 'culvert-test' });
}

/** @param what "get /api/v1/namespaces/x/pods/y": verb and path of the API @returns whether the account may do it */
async function may(account: string, what: string): Promise<boolean> {
  const [verb = '', path = ''] = what.split(' ');
  const match = /^\/(?:api\/v1|apis\/([^/]+)\/[^/]+)(?:\/namespaces\/([^/]+)(?=\/))?\/([^/]+)(?:\/([^/]+))?(?:\/([^/]+))?$/.exec(path)!;
  const [, group = '', namespace = '', resource = '', name = '', subresource = ''] = match;
  const review = await server.adminApi.create('/apis/authorization.k8s.io/v1/subjectaccessreviews', {
    metadata: { name: '' },
    spec: {
      user: `system:serviceaccount:${NAMESPACE}:${account}`,
      groups: ['system:serviceaccounts', `system:serviceaccounts:${NAMESPACE}`, 'system:authenticated'],
      resourceAttributes: { verb, group, namespace, resource, name, subresource },
    },
  });
  return (review['status'] as { allowed: boolean }).allowed;
}

const log = createLogger('test', 'silent');
const agentsDaemonSet = { namespace: NAMESPACE, name: 'culvert-node', node: 'node1', retries: 0 };

describe('objects', () => {
  it.each(Object.keys(installations))('of %s have no field that the API server does not know', async (name) => {
    const { values, namespace } = installations[name]!;
    for (const object of manifests(await rendered(values, namespace))) {
      const path = `${collection(object)}?dryRun=All&fieldValidation=Strict`;
      await expect(server.adminApi.create(path, object), `${object.kind} ${object.metadata.name}`).resolves.toBeDefined();
    }
  });
});

describe('what helm says after an installation', () => {
  it.each([
    ['without-istio', ['Deployment culvert-control', 'kubectl label namespace NAME istio.io/dataplane-mode=ambient']],
    ['agent-only', ["each node's ztunnel in istio-system connects to /var/run/ztunnel/ztunnel.sock", 'kubectl -n istio-system exec']],
    ['istiod', ['istiod in istio-system', 'trustedZtunnelNamespace: culvert-system']],
  ])('of %s names its parts and the next step', async (name, sentences) => {
    const { values = {}, namespace = NAMESPACE } = installations[name] ?? {};
    const args = ['install', 'culvert', CHART, '--namespace', namespace, '--dry-run=server'];
    const { code, stdout } = await helm(args, { kubeconfig: server.kubeconfig, values });
    expect(code).toBe(0);
    const notes = stdout.slice(stdout.indexOf('\nNOTES:'));
    for (const sentence of sentences) expect(notes).toContain(sentence);
    expect(notes.includes('trustedZtunnelNamespace')).toBe(name === 'istiod');
  });
});

describe('a release', () => {
  /** generation of each workload: grows when its pods would be replaced */
  const generations = async (): Promise<Record<string, number | undefined>> => {
    const lists = await Promise.all(
      ['daemonsets', 'deployments'].map((plural) => server.adminApi.list(`/apis/apps/v1/namespaces/${NAMESPACE}/${plural}`)),
    );
    return Object.fromEntries(lists.flatMap(({ items }) => items.map(({ metadata }) => [metadata.name, metadata.generation])));
  };

  it('is installed, upgraded and taken off, and leaves nothing', async () => {
    const before = await present();
    await release('install', { control: { replicas: 3 } });
    expect(await generations()).toEqual({ 'culvert-node': 1, ztunnel: 1, 'culvert-control': 1 });
    await release('upgrade', { control: { replicas: 3 } });
    expect(await generations(), 'the same again').toEqual({ 'culvert-node': 1, ztunnel: 1, 'culvert-control': 1 });
    await release('upgrade', { control: { replicas: 3 }, ambient: { dnsCapture: false } });
    expect(await generations(), 'a setting of the agent').toEqual({ 'culvert-node': 2, ztunnel: 1, 'culvert-control': 1 });
    await release('upgrade', { tunnel: { builtin: { enabled: false } }, control: { enabled: false } });
    expect(await generations(), 'tunnel and control gone').toEqual({ 'culvert-node': 3 });
    await release('uninstall');
    expect(await present()).toEqual(before);
  });

  it('gives each account what it needs and no more', async () => {
    await release('install');
    const allowed: Record<string, string[]> = {
      'culvert-node': [
        'list /api/v1/pods',
        'watch /api/v1/namespaces',
        'patch /api/v1/namespaces/shop/pods/web-1/status',
        'create /api/v1/namespaces/shop/events',
        'get /api/v1/nodes/node1',
        `get /apis/apps/v1/namespaces/${NAMESPACE}/daemonsets/culvert-node`,
      ],
      'culvert-control': [
        'watch /api/v1/pods',
        'create /apis/authentication.k8s.io/v1/tokenreviews',
        `update /api/v1/namespaces/${NAMESPACE}/secrets/culvert-ca-secret`,
        'patch /api/v1/namespaces/shop/configmaps/istio-ca-root-cert',
        `update /apis/coordination.k8s.io/v1/namespaces/${NAMESPACE}/leases/culvert-control`,
      ],
    };
    const refused = [
      'list /api/v1/secrets',
      `get /api/v1/namespaces/${NAMESPACE}/secrets/other`,
      `delete /api/v1/namespaces/${NAMESPACE}/secrets/culvert-ca-secret`,
      'get /api/v1/namespaces/shop/pods/web-1/exec',
      'create /api/v1/namespaces/shop/pods',
      'patch /api/v1/namespaces/shop/pods/web-1',
      'delete /api/v1/namespaces/shop/pods/web-1',
      'patch /api/v1/nodes/node1',
      'patch /api/v1/namespaces/shop/configmaps/other',
      'delete /api/v1/namespaces/shop/configmaps/istio-ca-root-cert',
      'create /api/v1/namespaces/shop/serviceaccounts/default/token',
      `patch /apis/apps/v1/namespaces/${NAMESPACE}/daemonsets/culvert-node`,
      `get /apis/apps/v1/namespaces/${NAMESPACE}/daemonsets/ztunnel`,
      'create /apis/rbac.authorization.k8s.io/v1/clusterrolebindings',
      'impersonate /api/v1/users/admin',
    ];
    for (const [account, needs] of Object.entries(allowed)) {
      for (const what of needs) expect(await may(account, what), `${account}: ${what}`).toBe(true);
      for (const what of refused) expect(await may(account, what), `${account}: ${what}`).toBe(false);
    }
    // its token only says who it is
    for (const what of Object.values(allowed).flat()) expect(await may('ztunnel', what), `ztunnel: ${what}`).toBe(false);
    await release('uninstall');
  });

  it('is alone in its cluster: a second one is refused, and the first stays as it is', async () => {
    await release('install');
    const second = await helm(['install', 'other', CHART, '--namespace', 'shop'], { kubeconfig: server.kubeconfig });
    expect(second).toMatchObject({ code: 1, stderr: expect.stringContaining('ClusterRole "culvert-') as unknown });
    expect(Object.keys(await generations())).toHaveLength(3);
    expect((await server.adminApi.list('/apis/apps/v1/namespaces/shop/daemonsets')).items).toEqual([]);
    await release('uninstall');
  });

  it('that is taken off tells its agents so: what they may no longer ask for counts as gone', async () => {
    await release('install');
    await server.adminApi.create('/api/v1/nodes', { metadata: { name: 'node1', labels: { 'kubernetes.io/os': 'linux' } } });
    const api = await asAccount('culvert-node');
    expect(await askDaemonSet(api, agentsDaemonSet, log)).toBe('present');
    await release('uninstall');
    // A token outlives its account for some seconds in the server's cache; its role does not.
    await until('the agent to be told', async () => (await askDaemonSet(api, agentsDaemonSet, log)) === 'unauthorized');
    expect(await api.get('/api/v1/nodes/node1').catch((error: unknown) => (error as { status: number }).status)).toSatisfy(
      (status) => status === 401 || status === 403,
    );
  });

  it('lets go of a node, or of all, when its DaemonSet is no longer meant for it', async () => {
    await release('install');
    const api = await asAccount('culvert-node');
    await release('upgrade', { nodeSelector: { 'culvert.dev/leave': 'yes' } });
    expect(await askDaemonSet(api, agentsDaemonSet, log)).toBe('elsewhere');
    await release('uninstall');
  });
});
