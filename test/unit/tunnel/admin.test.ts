import { existsSync, mkdtempSync, rmSync, statSync } from 'node:fs';
import { request } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { serveTcp, serveUnix } from '../../../src/sys/doors.ts';
import { adminHandler, readinessHandler } from '../../../src/tunnel/admin.ts';
import { configDump } from '../../../src/tunnel/config-dump.ts';
import { Workloads } from '../../../src/tunnel/workloads.ts';
import type { PodProxy } from '../../../src/tunnel/pod-proxy.ts';
import { workload } from '../../support/state.ts';
import { eventually, listenApp, LoopbackMesh } from '../../support/tunnel/loopback.ts';

const directory = mkdtempSync(join(tmpdir(), 'cvt-tun-admin-'));
afterAll(() => {
  rmSync(directory, { recursive: true });
});

function get(target: { socketPath: string } | { port: number }, path: string, method = 'GET'): Promise<{ status: number; body: string }> {
  return new Promise((resolve, reject) => {
    const asked = request({ ...target, path, method, agent: false }, (response) => {
      let body = '';
      response.on('data', (chunk: Buffer) => (body += chunk.toString()));
      response.on('end', () => resolve({ status: response.statusCode ?? 0, body }));
    });
    asked.on('error', reject);
    asked.end();
  });
}

describe('doors', () => {
  it('answer readiness with what is still to come', async () => {
    const pending = ['state manager'];
    const server = await serveTcp(readinessHandler({ dump: () => ({}), pending: () => pending }), 0, '127.0.0.1');
    const { port } = server.address() as AddressInfo;
    expect(await get({ port }, '/healthz/ready')).toEqual({ status: 500, body: 'not ready, pending: state manager\n' });
    pending.length = 0;
    expect(await get({ port }, '/healthz/ready')).toEqual({ status: 200, body: 'ready\n' });
    expect((await get({ port }, '/constructor')).status).toBe(404);
    expect((await get({ port }, '/healthz/ready', 'POST')).status).toBe(405);
    for (const path of ['//', '///', 'http://[', '*']) expect((await get({ port }, path)).status).toBe(404);
    expect((await get({ port }, '/healthz/ready?verbose')).status).toBe(200);
    server.close();
  });

  it('are taken over by a newer tunnel, whose path the older one leaves alone', async () => {
    const socketPath = join(directory, 'admin.sock');
    const old = await serveUnix(adminHandler({ dump: () => 'old', pending: () => [] }), socketPath);
    expect(statSync(socketPath).mode & 0o777).toBe(0o600);
    const fresh = await serveUnix(adminHandler({ dump: () => 'new', pending: () => [] }), socketPath);
    await old.close();
    expect(JSON.parse((await get({ socketPath }, '/config_dump')).body)).toBe('new');
    await fresh.close();
    expect(existsSync(socketPath)).toBe(false);
  });
});

describe('config dump', () => {
  it('shows a live connection at both pods, with bytes and the far identity', async () => {
    const mesh = await LoopbackMesh.create([workload('client', '127.74.1.1'), workload('web', '127.74.2.1')]);
    const app = await listenApp('127.74.2.1', 8080, (socket) => socket.pipe(socket));
    const socket = await mesh.dial('client', { ip: '127.74.2.1', port: 8080 });
    socket.write('four');
    await new Promise((resolve) => socket.once('data', resolve));
    const workloads = new Workloads<PodProxy>((_uid, info) => Promise.resolve(mesh.pods.get(info.name)!.proxy), mesh.other.log);
    const { openSync } = await import('node:fs');
    for (const name of ['client', 'web'])
      await workloads.handle(
        { kind: 'add', uid: `uid-${name}`, workload: { name, namespace: 'shop', serviceAccount: name } },
        openSync('/dev/null', 'r'),
      );
    const dump = configDump({ node: 'node1', version: '1' }, mesh.store, mesh.env.certificates, workloads);
    const common = { protocol: 'HBONE', originalDst: '127.74.2.1:8080', bytesIn: 4, bytesOut: 4 };
    expect(dump.workloadState['uid-client']?.connections).toMatchObject({
      inbound: [],
      outbound: [{ ...common, actualDst: '127.74.2.1:15008', peerIdentity: 'spiffe://cluster.local/ns/shop/sa/web' }],
    });
    expect(dump.workloadState['uid-web']?.connections).toMatchObject({
      outbound: [],
      inbound: [{ ...common, actualDst: '127.74.2.1:8080', peerIdentity: 'spiffe://cluster.local/ns/shop/sa/client' }],
    });
    expect(dump.connections.map(({ node, pod, direction }) => [node, pod, direction])).toEqual([
      ['node1', 'shop/client', 'outbound'],
      ['node1', 'shop/web', 'inbound'],
    ]);
    expect(dump.certificates[0]).toMatchObject({ state: 'Available', node: 'node1', serial: expect.any(String) as string });
    await workloads.close(0);
    await eventually(() => dump.connections.length === 2 && mesh.pods.get('web')!.proxy.connections.list().length === 0);
    app.close();
    await mesh.close();
  });
});
