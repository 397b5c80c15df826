/** Tokens of service accounts, bound to a pod or to nothing: from the server itself, or signed here with its key. */
import { createPrivateKey, randomUUID, sign } from 'node:crypto';
import { readFileSync } from 'node:fs';
import type { KubeApi, KubeObject } from '../../../src/kubernetes/api.ts';

export const TOKEN_ISSUER = 'https://kubernetes.default.svc.cluster.local';
/** The server refuses to give shorter ones. */
const SHORTEST_SECONDS = 600;

export interface TokenOptions {
  audience: string;
  /** name of the pod that it is bound to */
  pod?: string;
  /** from now, default 3600. Below 600 it is signed here, as the server would; the server grants a minute more, so −120 is expired */
  expirationSeconds?: number;
}

export async function requestToken(
  api: KubeApi,
  keyFile: string,
  namespace: string,
  serviceAccount: string,
  options: TokenOptions,
): Promise<string> {
  const { audience, pod: podName, expirationSeconds = 3600 } = options;
  const path = `/api/v1/namespaces/${namespace}/serviceaccounts/${serviceAccount}`;
  const pod = podName === undefined ? undefined : await existing(api, `/api/v1/namespaces/${namespace}/pods/${podName}`);
  if (expirationSeconds >= SHORTEST_SECONDS) {
    const answer = await api.create(`${path}/token`, {
      apiVersion: 'authentication.k8s.io/v1',
      kind: 'TokenRequest',
      metadata: { name: '' },
      spec: {
        audiences: [audience],
        expirationSeconds,
        ...(pod === undefined
          ? {}
          : { boundObjectRef: { apiVersion: 'v1', kind: 'Pod', name: pod.metadata.name, uid: pod.metadata.uid ?? '' } }),
      },
    });
    return (answer['status'] as { token: string }).token;
  }
  const account = await existing(api, path);
  const now = Math.floor(Date.now() / 1000);
  const issued = Math.min(now, now + expirationSeconds) - 1;
  const node = (pod?.['spec'] as { nodeName?: string } | undefined)?.nodeName;
  return signed(keyFile, {
    iss: TOKEN_ISSUER,
    sub: `system:serviceaccount:${namespace}:${serviceAccount}`,
    aud: [audience],
    iat: issued,
    nbf: issued,
    exp: now + expirationSeconds,
    jti: randomUUID(),
    'kubernetes.io': {
      namespace,
      serviceaccount: { name: serviceAccount, uid: account.metadata.uid },
      ...(pod === undefined ? {} : { pod: { name: pod.metadata.name, uid: pod.metadata.uid } }),
      ...(node === undefined ? {} : { node: { name: node } }),
    },
  });
}

async function existing(api: KubeApi, path: string): Promise<KubeObject> {
  const object = await api.get(path);
  if (object === undefined) throw new Error(`no ${path}`);
  return object;
}

function signed(keyFile: string, claims: object): string {
  const encode = (value: object): string => Buffer.from(JSON.stringify(value)).toString('base64url');
  const text = `${encode({ alg: 'ES256' })}.${encode(claims)}`;
  const key = createPrivateKey(readFileSync(keyFile));
  return `${text}.${sign('sha256', Buffer.from(text), { key, dsaEncoding: 'ieee-p1363' }).toString('base64url')}`;
}
