/** A whole tunnel at a control plane: what it waits for before it meets the agent, and what the admin door says then. */
import { create } from '@bufbuild/protobuf';
import type { sendUnaryData, ServerUnaryCall } from '@grpc/grpc-js';
import { mkdtempSync, rmSync } from 'node:fs';
import { request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it, vi } from 'vitest';
import {
  IstioCertificateResponseSchema,
  type IstioCertificateRequest,
  type IstioCertificateResponse,
} from '../../../src/proto/certificate_pb.js';
import { Scope } from '../../../src/proto/security_pb.js';
import { ControlPlaneChannel } from '../../../src/rpc/channel.ts';
import { ADDRESS_TYPE, AUTHORIZATION_TYPE, createCertificate } from '../../../src/rpc/services.ts';
import { createXdsFeed } from '../../../src/sources/xds/feed.ts';
import { CaClient } from '../../../src/tunnel/ca-client.ts';
import type { ConfigDump } from '../../../src/tunnel/config-dump.ts';
import { createLocalCa, LocalCaIssuer } from '../../../src/tunnel/local-ca.ts';
import { Tunnel } from '../../../src/tunnel/tunnel.ts';
import { AdsScript } from '../../support/control-plane/ads.ts';
import { collectingLogger } from '../../support/control-plane/logs.ts';
import { policyResource, serviceResource, workloadResource } from '../../support/control-plane/resources.ts';
import { startServer, type ControlPlaneServer } from '../../support/control-plane/server.ts';

const dir = mkdtempSync(join(tmpdir(), 'cvt-tun-xds-'));
const adminSocket = join(dir, 'admin.sock');
const ads = new AdsScript();
const { log, lines } = collectingLogger();
let server: ControlPlaneServer;
let channel: ControlPlaneChannel;
let tunnel: Tunnel;
let met = 0;

beforeAll(async () => {
  await createLocalCa(dir);
  const ca = new LocalCaIssuer(dir);
  const handler = (
    { request: asked }: ServerUnaryCall<IstioCertificateRequest, IstioCertificateResponse>,
    callback: sendUnaryData<IstioCertificateResponse>,
  ): void => {
    const identity = asked.metadata?.['ImpersonatedIdentity'] as string;
    void ca.sign({ identity, csr: asked.csr, lifetimeMs: Number(asked.validityDuration) * 1000 }).then(({ chain, roots }) => {
      callback(null, create(IstioCertificateResponseSchema, { certChain: [...chain, ...roots] }));
    });
  };
  server = await startServer([ads.method, { definition: createCertificate, handler }]);
  const controlPlane = { address: server.address, rootCert: server.rootFile, clusterId: 'Kubernetes' };
  channel = new ControlPlaneChannel(controlPlane, log);
  tunnel = new Tunnel({
    node: 'node1',
    version: 'test',
    zdsSocket: join(dir, 'zds.sock'),
    adminSocket,
    feed: createXdsFeed({ controlPlane, node: { name: 'node1' }, network: '', onDemand: false, logger: log }),
    issuer: new CaClient(channel),
    certificateLifetimeMs: 3600_000,
    logger: () => log,
    connectZds: () => {
      met++;
      return { peer: { pid: 1, uid: 0, gid: 0 }, send: () => undefined, close: () => undefined };
    },
  });
  await tunnel.start();
});
afterAll(async () => {
  await tunnel.stop(0);
  channel.close();
  await server.stop();
  rmSync(dir, { recursive: true });
});

function dump(): Promise<ConfigDump> {
  return new Promise((resolve, reject) => {
    request({ socketPath: adminSocket, path: '/config_dump', agent: false }, (response) => {
      let body = '';
      response.on('data', (chunk: Buffer) => (body += chunk.toString()));
      response.on('end', () => resolve(JSON.parse(body) as ConfigDump));
    })
      .once('error', reject)
      .end();
  });
}

it('meets the agent after the first sync, has certificates of its own workloads, and shows all it knows', async () => {
  const stream = await ads.stream();
  await stream.answerTo(AUTHORIZATION_TYPE, [policyResource('deny', { scope: Scope.NAMESPACE })]);
  expect(met).toBe(0);
  const services = { 'shop/web.shop.svc.cluster.local': { ports: [{ servicePort: 80, targetPort: 8081 }] } };
  await stream.answerTo(ADDRESS_TYPE, [
    workloadResource('web', '10.0.0.1', { services }),
    workloadResource('far', '10.0.0.2', { services, node: 'node2', serviceAccount: 'far' }),
    serviceResource('web', '10.96.0.1', { subjectAltNames: ['spiffe://cluster.local/ns/shop/sa/gateway'] }),
  ]);
  await vi.waitFor(() => expect(met).toBe(1));
  await vi.waitFor(async () => expect((await dump()).certificates).toMatchObject([{ state: 'Available' }]));
  const known = await dump();
  expect(known.certificates).toMatchObject([
    { identity: 'spiffe://cluster.local/ns/shop/sa/web', state: 'Available', node: 'node1', error: null, errorTime: null },
  ]);
  expect(known.workloads).toMatchObject([
    { uid: 'cluster//Pod/shop/web', protocol: 'HBONE', node: 'node1', services: Object.keys(services) },
    { uid: 'cluster//Pod/shop/far', node: 'node2' },
  ]);
  expect(known.services).toMatchObject([
    {
      hostname: 'web.shop.svc.cluster.local',
      vips: ['/10.96.0.1'],
      ports: { 80: 8080 },
      endpoints: { 'cluster//Pod/shop/web': { port: { 80: 8081 }, status: 'Healthy' }, 'cluster//Pod/shop/far': {} },
      subjectAltNames: ['spiffe://cluster.local/ns/shop/sa/gateway'],
    },
  ]);
  expect(known.policies).toMatchObject([{ name: 'deny', namespace: 'shop', scope: 'Namespace', action: 'Allow' }]);
  expect(known.config).toEqual({ nodeName: 'node1', trustDomain: 'cluster.local' });
  expect(lines.filter(({ msg }) => String(msg).includes('not enforced'))).toHaveLength(1);
});

it('lets go of a certificate with the last workload of its identity', async () => {
  await ads.streams[0]!.answerTo(ADDRESS_TYPE, [], ['cluster//Pod/shop/web']);
  await vi.waitFor(async () => expect((await dump()).certificates).toEqual([]));
  expect(met).toBe(1);
});
