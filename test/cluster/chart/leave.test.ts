/** What Helm runs before it takes the chart off: `culvert leave`, with that Job's account, against a real API server. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { runCli } from '../../../src/cli/main.ts';
import type { KubeObject } from '../../../src/kubernetes/api.ts';
import { connectKubernetes } from '../../../src/kubernetes/client.ts';
import { startApiServer, type ApiServer } from '../../support/apiserver.ts';
import { manifests, rendered } from '../../support/helm.ts';
import { TOKEN_ISSUER } from '../../support/kubernetes/tokens.ts';
import { until } from '../../support/kubernetes/until.ts';

const NAMESPACE = 'culvert-system';
const DAEMON_SETS = `/apis/apps/v1/namespaces/${NAMESPACE}/daemonsets`;
const RBAC = `/apis/rbac.authorization.k8s.io/v1/namespaces/${NAMESPACE}`;

let server: ApiServer;
let kubeconfig: string;
let job: string[];

beforeAll(async () => {
  server = await startApiServer();
  await server.createNamespace(NAMESPACE);
  const all = manifests(await rendered());
  const one = (kind: string, name = 'culvert-leave'): KubeObject =>
    all.find((object) => object.kind === kind && object.metadata.name === name)!;
  await server.adminApi.create(`/api/v1/namespaces/${NAMESPACE}/serviceaccounts`, one('ServiceAccount'));
  await server.adminApi.create(`${RBAC}/roles`, one('Role'));
  await server.adminApi.create(`${RBAC}/rolebindings`, one('RoleBinding'));
  for (const name of ['culvert-node', 'ztunnel']) await server.adminApi.create(DAEMON_SETS, one('DaemonSet', name));
  const { template } = one('Job')['spec'] as { template: { spec: { containers: { command: string[] }[] } } };
  job = template.spec.containers[0]!.command;

  kubeconfig = join(server.dir, 'leave.kubeconfig');
  const config = {
    'current-context': 'leave',
    contexts: [{ name: 'leave', context: { cluster: 'c', user: 'u' } }],
    clusters: [{ name: 'c', cluster: { server: server.url, 'certificate-authority': join(server.dir, 'ca.crt') } }],
    users: [{ name: 'u', user: { token: await server.token(NAMESPACE, 'culvert-leave', { audience: TOKEN_ISSUER }) } }],
  };
  writeFileSync(kubeconfig, JSON.stringify(config));
});
afterAll(() => server.close());

/** As the Job has it, with its account. */
async function leave(): Promise<{ code: number; out: string; err: string }> {
  const said = { out: '', err: '' };
  const io = { out: (text: string) => void (said.out += text), err: (text: string) => void (said.err += text), tty: false };
  return { code: await runCli([...job.slice(1), '--kubeconfig', kubeconfig], io), ...said };
}

const daemonSet = async (): Promise<KubeObject> => (await server.adminApi.get(`${DAEMON_SETS}/culvert-node`))!;

/** What the DaemonSet controller would write. */
async function seen(): Promise<void> {
  const { generation } = (await daemonSet()).metadata;
  const status = {
    observedGeneration: generation,
    currentNumberScheduled: 0,
    desiredNumberScheduled: 0,
    numberMisscheduled: 0,
    numberReady: 0,
  };
  await server.adminApi.patch(`${DAEMON_SETS}/culvert-node/status`, { status }, 'merge');
}

const nodeSelector = async (): Promise<unknown> => {
  const { template } = (await daemonSet())['spec'] as { template: { spec: { nodeSelector: unknown } } };
  return template.spec.nodeSelector;
};

it('tells the agents by their DaemonSet, and ends when none is left', async () => {
  await server.objects.pod({ namespace: NAMESPACE, name: 'culvert-node-a', labels: { app: 'culvert-node' } });
  const ownerReferences = [{ apiVersion: 'apps/v1', kind: 'DaemonSet', name: 'culvert-node', uid: (await daemonSet()).metadata.uid }];
  await server.adminApi.patch(`/api/v1/namespaces/${NAMESPACE}/pods/culvert-node-a`, { metadata: { ownerReferences } }, 'merge');
  // has their label, and is not theirs
  await server.objects.pod({ namespace: NAMESPACE, name: 'debug', labels: { app: 'culvert-node' } });

  let ended = false;
  const left = leave().finally(() => (ended = true));
  await until('the DaemonSet to be told', async () => (await daemonSet()).metadata.generation === 2);
  expect(await nodeSelector()).toEqual({ 'kubernetes.io/os': 'linux', 'culvert.dev/leave': 'yes' });
  await seen();
  expect(ended).toBe(false);
  await server.objects.removePod(NAMESPACE, 'culvert-node-a');
  expect(await left).toMatchObject({ code: 0, err: 'waiting for culvert-node-a\n' });
});

it('changes nothing when it is run again', async () => {
  expect(await leave()).toMatchObject({ code: 0, err: '' });
  expect((await daemonSet()).metadata.generation).toBe(2);
  await server.adminApi.remove(`${DAEMON_SETS}/culvert-node`);
  expect(await leave()).toMatchObject({ code: 0, err: '' });
});

it('may do nothing else', async () => {
  const api = connectKubernetes({ kubeconfig, fieldManager: 'culvert-test' });
  const pods = `/api/v1/namespaces/${NAMESPACE}/pods`;
  const attempts: Record<string, () => Promise<unknown>> = {
    'another DaemonSet': () => api.get(`${DAEMON_SETS}/ztunnel`),
    'all DaemonSets': () => api.list(DAEMON_SETS),
    'the end of the DaemonSet': () => api.remove(`${DAEMON_SETS}/culvert-node`),
    'one pod': () => api.get(`${pods}/debug`),
    'the end of a pod': () => api.remove(`${pods}/debug`),
    'pods of others': () => api.list('/api/v1/pods'),
    secrets: () => api.list(`/api/v1/namespaces/${NAMESPACE}/secrets`),
  };
  for (const [what, attempt] of Object.entries(attempts)) await expect(attempt(), what).rejects.toMatchObject({ status: 403 });
  api.close();
});
