/** `culvert control` as a process of its own on a real API server, with the permissions that its documentation lists and no others. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { join } from 'node:path';
import { controlSocket } from '../../src/control/config.ts';
import type { ControlStatus } from '../../src/control/status.ts';
import type { ApiServer } from './apiserver.ts';
import { Component } from './kubernetes/component.ts';
import { grantDocumented, subjectOf } from './kubernetes/permissions.ts';
import { until } from './kubernetes/until.ts';

export const NAMESPACE = 'culvert-system';
const ACCOUNT = 'culvert-control';
const ROOT = join(import.meta.dirname, '../..');

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
  const account = { namespace: NAMESPACE, name: ACCOUNT };
  await grantDocumented(cluster.adminApi, 'control.md', account);
  return cluster.userKubeconfig('control', subjectOf(account));
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
