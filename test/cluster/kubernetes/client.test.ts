import { mkdirSync, writeFileSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { connectKubernetes } from '../../../src/kubernetes/client.ts';
import { startApiServer, type ApiServer } from '../../support/apiserver.ts';
import { TOKEN_ISSUER } from '../../support/kubernetes/tokens.ts';

let server: ApiServer;
beforeAll(async () => {
  server = await startApiServer();
  await server.createNamespace('shop');
});
afterAll(() => server.close());

const CONFIG_MAPS = '/api/v1/namespaces/shop/configmaps';

/** TokenReview of a token for our audience. */
async function review(token: string): Promise<Record<string, unknown>> {
  const answer = await server.adminApi.create('/apis/authentication.k8s.io/v1/tokenreviews', {
    metadata: { name: '' },
    spec: { token, audiences: ['istio-ca'] },
  });
  return answer['status'] as Record<string, unknown>;
}

describe('Kubernetes client against a real server', () => {
  it('creates, reads, patches, replaces and removes', async () => {
    const api = server.adminApi;
    const made = await api.create(CONFIG_MAPS, { metadata: { name: 'a' }, data: { x: '1' } });
    expect(made.metadata.uid).toBeDefined();
    const patched = await api.patch(`${CONFIG_MAPS}/a`, { data: { y: '2' } }, 'merge');
    expect(patched['data']).toEqual({ x: '1', y: '2' });
    await expect(api.replace(`${CONFIG_MAPS}/a`, made)).rejects.toMatchObject({ status: 409, reason: 'Conflict' });
    await expect(api.create(CONFIG_MAPS, { metadata: { name: 'a' } })).rejects.toMatchObject({ status: 409, reason: 'AlreadyExists' });
    const body = { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'b' }, data: { z: '3' } };
    const applied = await api.patch(`${CONFIG_MAPS}/b`, body, 'apply');
    expect((applied.metadata as { managedFields?: { manager: string }[] }).managedFields?.[0]?.manager).toBe('culvert-test');
    await api.remove(`${CONFIG_MAPS}/a`);
    await api.remove(`${CONFIG_MAPS}/a`);
    expect(await api.get(`${CONFIG_MAPS}/a`)).toBeUndefined();
  });

  it('reads a list page by page', async () => {
    for (const name of ['p1', 'p2', 'p3']) await server.adminApi.create(CONFIG_MAPS, { metadata: { name, labels: { page: 'yes' } } });
    const query = { limit: '2', labelSelector: 'page=yes' };
    const first = await server.adminApi.list(CONFIG_MAPS, query);
    expect(first.items).toHaveLength(2);
    const second = await server.adminApi.list(CONFIG_MAPS, { ...query, continue: first.continue! });
    expect([second.items.length, second.continue]).toEqual([1, undefined]);
  });

  it('uses the account of the pod that it runs in, and a rotated token at once', async () => {
    const dir = join(server.dir, 'account');
    mkdirSync(dir);
    writeFileSync(join(dir, 'ca.crt'), readFileSync(join(server.dir, 'ca.crt')));
    writeFileSync(join(dir, 'token'), 'not a token\n');
    const { hostname, port } = new URL(server.url);
    Object.assign(process.env, { KUBERNETES_SERVICE_HOST: hostname, KUBERNETES_SERVICE_PORT: port });
    try {
      const api = connectKubernetes({ fieldManager: 'pod', accountDir: dir });
      await expect(api.list(CONFIG_MAPS)).rejects.toMatchObject({ status: 401 });
      writeFileSync(join(dir, 'token'), `${await server.token('shop', 'default', { audience: TOKEN_ISSUER })}\n`);
      // Let in, and known by name: it may do nothing yet.
      await expect(api.list(CONFIG_MAPS)).rejects.toMatchObject({
        status: 403,
        message: expect.stringContaining('system:serviceaccount:shop:default') as string,
      });
    } finally {
      delete process.env['KUBERNETES_SERVICE_HOST'];
      delete process.env['KUBERNETES_SERVICE_PORT'];
    }
  });

  it('is a node to the server with a certificate of one', async () => {
    const kubeconfig = await server.userKubeconfig('node1', 'O=system:nodes,CN=system:node:node1');
    const api = connectKubernetes({ kubeconfig, fieldManager: 'kubelet' });
    await expect(api.list(CONFIG_MAPS)).rejects.toMatchObject({
      status: 403,
      message: expect.stringContaining('system:node:node1') as string,
    });
  });
});

describe('tokens', () => {
  it('name the pod and the node that they are bound to', async () => {
    await server.objects.pod({ namespace: 'shop', name: 'web', node: 'node1' });
    const status = await review(await server.token('shop', 'default', { audience: 'istio-ca', pod: 'web' }));
    expect(status).toMatchObject({
      authenticated: true,
      audiences: ['istio-ca'],
      user: {
        username: 'system:serviceaccount:shop:default',
        extra: { 'authentication.kubernetes.io/pod-name': ['web'], 'authentication.kubernetes.io/node-name': ['node1'] },
      },
    });
  });

  it('signed here count like those of the server', async () => {
    await server.objects.pod({ namespace: 'shop', name: 'web2', node: 'node2' });
    const status = await review(await server.token('shop', 'default', { audience: 'istio-ca', pod: 'web2', expirationSeconds: 60 }));
    expect(status).toMatchObject({
      authenticated: true,
      user: { extra: { 'authentication.kubernetes.io/pod-name': ['web2'], 'authentication.kubernetes.io/node-name': ['node2'] } },
    });
  });

  it('that ran out, are for others, or whose pod is gone are refused', async () => {
    await server.objects.pod({ namespace: 'shop', name: 'gone' });
    const orphan = await server.token('shop', 'default', { audience: 'istio-ca', pod: 'gone' });
    await server.objects.removePod('shop', 'gone');
    expect((await review(orphan))['authenticated']).toBeUndefined();
    expect((await review(await server.token('shop', 'default', { audience: 'istio-ca', expirationSeconds: -120 })))['error']).toContain(
      'expired',
    );
    expect((await review(await server.token('shop', 'default', { audience: 'another' })))['error']).toContain('audiences');
  });
});
