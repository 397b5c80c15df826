/** A node of a test cluster: the pod of its tunnel, the tunnel's token, and the tunnel's clients of the control plane. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { ControlPlaneChannel, type ControlPlaneOptions } from '../../src/rpc/channel.ts';
import { CaClient } from '../../src/tunnel/ca-client.ts';
import type { ApiServer } from './apiserver.ts';
import { NAMESPACE } from './control-process.ts';
import { collectingLogger } from './control-plane/logs.ts';
import { runFeed, type RunningFeed } from './control-plane/feed.ts';

export interface TestNode {
  name: string;
  /** how its tunnel reaches a control plane at that port of this host */
  access(port: number): ControlPlaneOptions;
  feed(port: number): RunningFeed;
  ca(port: number): { client: CaClient; close(): void };
}

/** @param ip of the tunnel's pod */
export async function createNode(cluster: ApiServer, name: string, ip: string): Promise<TestNode> {
  const pod = `ztunnel-${name}`;
  await cluster.objects.node(name, { 'topology.kubernetes.io/region': 'r1', 'topology.kubernetes.io/zone': 'r1-a' });
  await cluster.objects.pod({ namespace: NAMESPACE, name: pod, node: name, serviceAccount: 'ztunnel', ips: [ip] });
  const tokenFile = join(cluster.dir, `${name}.token`);
  writeFileSync(tokenFile, await cluster.token(NAMESPACE, 'ztunnel', { audience: 'istio-ca', pod }), { mode: 0o600 });
  const rootCert = rootsFile(cluster);
  const access = (port: number): ControlPlaneOptions => ({
    ...{ address: `https://localhost:${port}`, rootCert, tokenFile, clusterId: 'Kubernetes' },
  });
  return {
    name,
    access,
    feed: (port) => runFeed(access(port), { node: { name, ip, podName: pod, namespace: NAMESPACE } }),
    ca: (port) => {
      const channel = new ControlPlaneChannel(access(port), collectingLogger().log);
      return { client: new CaClient(channel), close: () => channel.close() };
    },
  };
}

function rootsFile(cluster: ApiServer): string {
  return join(cluster.dir, 'root-cert.pem');
}

/** As a pod would find them: from the ConfigMap in its namespace. */
export async function mountRoots(cluster: ApiServer, namespace: string): Promise<boolean> {
  const map = await cluster.adminApi.get(`/api/v1/namespaces/${namespace}/configmaps/istio-ca-root-cert`);
  const roots = (map?.['data'] as Record<string, string> | undefined)?.['root-cert.pem'];
  if (roots !== undefined) writeFileSync(rootsFile(cluster), roots);
  return roots !== undefined;
}
