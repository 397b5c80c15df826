/** `culvert control` as a process of its own on a real API server, with the permissions that its documentation lists and no others. */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { join } from 'node:path';
import { parseAllDocuments } from 'yaml';
import { controlSocket } from '../../src/control/config.ts';
import type { ControlStatus } from '../../src/control/status.ts';
import type { KubeObject } from '../../src/kubernetes/api.ts';
import type { ApiServer } from './apiserver.ts';
import { Component } from './kubernetes/component.ts';
import { until } from './kubernetes/until.ts';

export const NAMESPACE = 'culvert-system';
const ACCOUNT = 'culvert-control';
const USER = `system:serviceaccount:${NAMESPACE}:${ACCOUNT}`;
const ROOT = join(import.meta.dirname, '../..');
const RBAC = '/apis/rbac.authorization.k8s.io/v1';

export interface ControlProcess {
  readonly port: number;
  readonly log: string;
  readonly pid: number;
  status(): Promise<ControlStatus>;
  kill(): Promise<void>;
  /** Same flags, same port. */
  restart(): Promise<void>;
}

/** Namespace, account and RBAC. @returns path of control's own kubeconfig */
export async function installControl(cluster: ApiServer): Promise<string> {
  await cluster.createNamespace(NAMESPACE);
  for (const account of [ACCOUNT, 'ztunnel']) await cluster.objects.serviceAccount(NAMESPACE, account);
  const documentation = readFileSync(join(ROOT, 'docs/control.md'), 'utf8');
  const [, yaml = ''] = /```yaml\n([\s\S]*?)```/.exec(documentation) ?? [];
  for (const document of parseAllDocuments(yaml)) {
    const role = document.toJS() as KubeObject & { kind: 'Role' | 'ClusterRole' };
    const { name, namespace } = role.metadata;
    const where = namespace === undefined ? RBAC : `${RBAC}/namespaces/${namespace}`;
    const plural = namespace === undefined ? 'cluster' : '';
    await cluster.adminApi.create(`${where}/${plural}roles`, role);
    await cluster.adminApi.create(`${where}/${plural}rolebindings`, {
      metadata: { name },
      roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: role.kind, name },
      subjects: [{ kind: 'ServiceAccount', name: ACCOUNT, namespace: NAMESPACE }],
    });
  }
  return cluster.userKubeconfig('control', `O=system:serviceaccounts,CN=${USER}`);
}

/** Resolves when it is ready. @param flags further ones */
export async function startControl(
  cluster: ApiServer,
  kubeconfig: string,
  name: string,
  flags: readonly string[] = [],
): Promise<ControlProcess> {
  const runDir = join(cluster.dir, name);
  mkdirSync(runDir, { recursive: true });
  const config = join(runDir, 'config.yaml');
  writeFileSync(config, '{}\n'); // not the machine's own
  let port = 0;
  const log = join(runDir, 'control.log');
  const command = (): string[] => [
    ...[process.execPath, join(ROOT, 'src/main.ts'), 'control', '--config', config, '--kubeconfig', kubeconfig, '--run-dir', runDir],
    ...['--address', `127.0.0.1:${port}`, '--readiness-port', '0', ...flags],
  ];
  let component: Component;
  const status = (): Promise<ControlStatus> => ask(controlSocket(runDir), '/status').then((text) => JSON.parse(text) as ControlStatus);
  const restart = async (): Promise<void> => {
    component = new Component(name, command(), log);
    component.start();
    await until(`${name} to be ready`, async () => {
      if (!component.running) throw new Error(`${name} ended:\n${component.tail()}`);
      return (await ask(controlSocket(runDir), '/readyz').catch(() => '')) === 'ready\n';
    });
    ({ port } = await status());
  };
  await restart();
  return {
    get port() {
      return port;
    },
    get pid() {
      return component.pid;
    },
    log,
    status,
    kill: () => component.kill(),
    restart,
  };
}

function ask(socketPath: string, path: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const asked = request({ socketPath, path, agent: false }, (response) => {
      let body = '';
      response.setEncoding('utf8').on('data', (text: string) => (body += text));
      response.on('end', () => {
        resolve(body);
      });
    });
    asked.on('error', reject);
    asked.end();
  });
}
