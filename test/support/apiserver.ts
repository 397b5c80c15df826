/**
 * A real Kubernetes API with nothing behind it: etcd and kube-apiserver. No controllers, no kubelets: what they would write, tests
 * write themselves (`objects`). Ready in 2–5 s; several at once are possible, each on a loopback address of its own.
 */
import { randomInt } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { request } from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { KubeApi } from '../../src/kubernetes/api.ts';
import { connectKubernetes } from '../../src/kubernetes/client.ts';
import { kubeBinary } from './kubernetes/binary.ts';
import { Component } from './kubernetes/component.ts';
import { applyCrds } from './kubernetes/crds.ts';
import { Objects } from './kubernetes/objects.ts';
import { createPki } from './kubernetes/pki.ts';
import { requestToken, TOKEN_ISSUER, type TokenOptions } from './kubernetes/tokens.ts';
import { until } from './kubernetes/until.ts';

const API_PORT = 21443;
const ETCD_PORT = 21379;
const READY_MS = 60_000;

export interface ApiServerOptions {
  /** further flags of kube-apiserver */
  flags?: readonly string[];
}

export interface ApiServer {
  readonly url: string;
  /** path; of an administrator */
  readonly kubeconfig: string;
  readonly adminApi: KubeApi;
  readonly objects: Objects;
  /** directory of its data and logs, gone after `close()` */
  readonly dir: string;
  /** of kube-apiserver, for measuring it */
  pid(): number;
  createNamespace(name: string, labels?: Record<string, string>): Promise<void>;
  /** A real token: the server answers TokenReview for it. */
  token(namespace: string, serviceAccount: string, options: TokenOptions): Promise<string>;
  /** @param subject "O=system:nodes,CN=system:node:node1" @returns path of a kubeconfig for that user */
  userKubeconfig(name: string, subject: string): Promise<string>;
  applyCrds(versions?: readonly string[]): Promise<void>;
  /** Forgets all old versions of objects: who resumes from one is told 410. */
  compact(): Promise<void>;
  /** Kills kube-apiserver; etcd keeps the objects. */
  kill(): Promise<void>;
  restart(): Promise<void>;
  close(): Promise<void>;
}

export async function startApiServer(options: ApiServerOptions = {}): Promise<ApiServer> {
  const kube = kubeBinary();
  const dir = mkdtempSync(join(tmpdir(), 'cvt-kube-'));
  // All of 127/8 is ours; an address of its own per server, and ports that nobody else's etcd has, spare the search for free ports.
  const address = `127.${randomInt(1, 255)}.${randomInt(256)}.${randomInt(1, 255)}`;
  const pki = await createPki(dir, [address]);
  const url = `https://${address}:${API_PORT}`;
  const etcdUrl = `http://${address}:${ETCD_PORT}`;
  const etcd = new Component(
    'etcd',
    [
      kube,
      'etcd',
      ...['--data-dir', join(dir, 'etcd'), '--unsafe-no-fsync', '--log-level', 'warn'],
      ...['--listen-client-urls', etcdUrl, '--advertise-client-urls', etcdUrl],
      ...['--listen-peer-urls', `http://${address}:0`],
    ],
    join(dir, 'etcd.log'),
  );
  const apiserver = new Component(
    'kube-apiserver',
    [
      kube,
      'kube-apiserver',
      ...['--bind-address', address, '--advertise-address', address, '--secure-port', String(API_PORT)],
      // The `kubernetes` service may not have an endpoint on loopback.
      ...['--endpoint-reconciler-type', 'none', '--service-cluster-ip-range', '10.96.0.0/16,fd00:96::/112'],
      ...['--etcd-servers', etcdUrl, '--authorization-mode', 'Node,RBAC', '--client-ca-file', pki.ca],
      ...['--tls-cert-file', pki.serverCertificate, '--tls-private-key-file', pki.serverKey],
      ...['--service-account-issuer', TOKEN_ISSUER, '--service-account-key-file', pki.tokenPublicKey],
      ...['--service-account-signing-key-file', pki.tokenKey, '--allow-privileged', '--profiling=false'],
      ...(options.flags ?? []),
    ],
    join(dir, 'kube-apiserver.log'),
  );
  const close = async (): Promise<void> => {
    await Promise.all([apiserver.kill(), etcd.kill()]);
    rmSync(dir, { recursive: true, force: true });
  };
  const restart = async (): Promise<void> => {
    apiserver.start();
    const ca = readFileSync(pki.ca);
    await until(
      'the API server to be ready',
      () => {
        for (const component of [etcd, apiserver]) if (!component.running) throw new Error(`${component.name} ended:\n${component.tail()}`);
        return isReady(`${url}/readyz`, ca);
      },
      READY_MS,
    );
  };

  try {
    etcd.start();
    const kubeconfig = await pki.kubeconfig('admin', 'O=system:masters,CN=admin', url);
    await restart();
    const adminApi = connectKubernetes({ kubeconfig, fieldManager: 'culvert-test' });
    const objects = new Objects(adminApi);
    return {
      url,
      kubeconfig,
      adminApi,
      objects,
      dir,
      pid: () => apiserver.pid,
      async createNamespace(name, labels) {
        await objects.namespace(name, labels);
      },
      token: (namespace, serviceAccount, token) => requestToken(adminApi, pki.tokenKey, namespace, serviceAccount, token),
      userKubeconfig: (name, subject) => pki.kubeconfig(name, subject, url),
      applyCrds: (versions) => applyCrds(adminApi, versions),
      compact: () => compact(etcdUrl),
      kill: () => apiserver.kill(),
      restart,
      close,
    };
  } catch (error) {
    await close();
    throw error;
  }
}

function isReady(url: string, ca: Buffer): Promise<boolean> {
  return new Promise((resolve) => {
    const asked = request(url, { ca, agent: false }, (response) => {
      response.resume();
      resolve(response.statusCode === 200);
    });
    asked.on('error', () => resolve(false));
    asked.end();
  });
}

/** etcd's own JSON door. */
async function compact(etcdUrl: string): Promise<void> {
  const post = async (path: string, body: object): Promise<unknown> => {
    const answer = await fetch(`${etcdUrl}${path}`, { method: 'POST', body: JSON.stringify(body) });
    if (!answer.ok) throw new Error(`etcd ${path}: ${await answer.text()}`);
    return answer.json();
  };
  const range = (await post('/v3/kv/range', { key: Buffer.from('/').toString('base64') })) as { header: { revision: string } };
  await post('/v3/kv/compaction', { revision: range.header.revision, physical: true });
}
