/** The ground that the scenarios of this ring stand on: is it a real cluster, and does it go without a trace? */
import { fork, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { KubeObject } from '../../../src/kubernetes/api.ts';
import { cgroup2Mount } from '../../../src/sys/cgroup.ts';
import { appPod, appService } from '../../support/cluster/app.ts';
import { hierarchies } from '../../support/cluster/cgroups.ts';
import { startCluster, type Cluster } from '../../support/cluster/cluster.ts';
import { ECHO_IMAGE, echoImage } from '../../support/cluster/images.ts';
import type { ClusterNode } from '../../support/cluster/node.ts';
import { sweep } from '../../support/cluster/sweep.ts';
import { debianContainerdVersion } from '../../support/cluster/tools.ts';
import { until } from '../../support/kubernetes/until.ts';

const START_MS = 180_000;
const SETTINGS = ['kernel/panic', 'kernel/panic_on_oops', 'vm/overcommit_memory', 'vm/panic_on_oom', 'kernel/keys/root_maxkeys'];
/** Places of this machine that the parts of Kubernetes would write to. */
const PLACES = [
  '/etc/cni',
  '/etc/kubernetes',
  '/opt/cni',
  '/opt/containerd',
  '/usr/libexec/kubernetes',
  '/var/lib/kubelet',
  '/var/log/pods',
];

const settings = (): string[] => SETTINGS.map((name) => readFileSync(`/proc/sys/${name}`, 'utf8').trim());
const places = (): boolean[] => PLACES.map((path) => existsSync(path));
const before = { settings: settings(), places: places() };

/** Paths on this machine that there are of a cluster: cgroups, directory, network device, processes. */
function traces({ name, device, pids }: { name: string; device: string; pids: readonly number[] }): string[] {
  const roots = [...hierarchies(), tmpdir()];
  const paths = [...roots.map((root) => join(root, name)), `/sys/class/net/${device}`, ...pids.map((pid) => `/proc/${pid}`)];
  return paths.filter((path) => existsSync(path));
}

interface Status {
  podIP: string;
  podIPs: { ip: string }[];
  containerStatuses: { restartCount: number; containerID: string }[];
}

const statusOf = (pod: KubeObject): Status => pod['status'] as Status;

describe('a cluster of two nodes, dual stack', () => {
  let cluster: Cluster;
  let node1: ClusterNode;
  let node2: ClusterNode;
  const fetchFrom = (pod: string, url: string): Promise<string> =>
    cluster.kubectl('exec', '-n', 'shop', pod, '--', 'wget', '-q', '-O', '-', url).then((text) => text.trim());
  const ready = (name: string): Promise<KubeObject> => cluster.podReady('shop', name);

  beforeAll(async () => {
    cluster = await startCluster({ nodes: 2, dualStack: true, coredns: true });
    [node1, node2] = [cluster.nodes[0]!, cluster.nodes[1]!];
    await cluster.objects.namespace('shop');
    await cluster.apply([
      appPod({ namespace: 'shop', name: 'client', node: 'node1' }),
      appPod({
        namespace: 'shop',
        name: 'web',
        node: 'node2',
        container: {
          ports: [{ containerPort: 8080, hostPort: 18080 }],
          readinessProbe: { httpGet: { path: '/', port: 8080 }, periodSeconds: 1 },
          livenessProbe: { exec: { command: ['true'] }, periodSeconds: 2 },
          startupProbe: { tcpSocket: { port: 8080 }, periodSeconds: 1 },
        },
      }),
      appService('shop', 'web', { app: 'web' }, { type: 'NodePort', ipFamilyPolicy: 'RequireDualStack' }),
      appService('shop', 'web-pods', { app: 'web' }, { clusterIP: 'None' }),
    ]);
    await Promise.all(['client', 'web'].map(ready));
  }, START_MS);

  afterAll(async () => {
    const { name, device, nodes } = cluster;
    const pids = [...Object.values(cluster.pids()), ...nodes.map(({ pid }) => pid)];
    expect(traces({ name, device, pids }).length).toBeGreaterThan(pids.length);
    await cluster.close();
    expect(traces({ name, device, pids })).toEqual([]);
    expect(settings()).toEqual(before.settings);
    expect(places()).toEqual(before.places);
  }, START_MS);

  it('has nodes that are ready, of this machine’s kernel', async () => {
    const { items } = await cluster.api.list('/api/v1/nodes');
    const seen = items.map(({ metadata, ...node }) => {
      const { nodeInfo, addresses } = node['status'] as { nodeInfo: Record<string, string>; addresses: { address: string }[] };
      return { name: metadata.name, runtime: nodeInfo['containerRuntimeVersion'], addresses: addresses.map(({ address }) => address) };
    });
    expect(seen).toEqual([
      { name: 'node1', runtime: expect.stringMatching(/^containerd:\/\/2\./) as string, addresses: [...node1.ips, 'node1'] },
      { name: 'node2', runtime: expect.stringMatching(/^containerd:\/\/2\./) as string, addresses: [...node2.ips, 'node2'] },
    ]);
  });

  it('carries traffic between pods of both nodes: pod address, ClusterIP, NodePort, hostPort, in both families', async () => {
    const [client, web] = [statusOf(await ready('client')), statusOf(await ready('web'))];
    const service = (await cluster.api.get('/api/v1/namespaces/shop/services/web'))!['spec'] as {
      clusterIPs: string[];
      ports: { nodePort: number }[];
    };
    const nodePort = service.ports[0]!.nodePort;
    expect(web.podIPs.map(({ ip }) => ip.replace(/\d+$/, ''))).toEqual(['10.244.2.', 'fd00:244:0:2::']);
    const inUrl = (ip: string): string => (ip.includes(':') ? `[${ip}]` : ip);
    for (const [family, own] of client.podIPs.entries()) {
      const direct = await fetchFrom('client', `http://${inUrl(web.podIPs[family]!.ip)}:8080/cgi-bin/peer`);
      expect(direct.replace('::ffff:', '').replace(/[[\]]/g, '')).toBe(`web ${own.ip}`);
      for (const url of [
        `http://${inUrl(service.clusterIPs[family]!)}/cgi-bin/peer`,
        `http://${inUrl(node1.ips[family]!)}:${nodePort}/cgi-bin/peer`,
        `http://${inUrl(node2.ips[family]!)}:${nodePort}/cgi-bin/peer`,
      ])
        expect(await fetchFrom('client', url), url).toMatch(/^web /);
    }
    expect(await fetchFrom('client', `http://${node2.ip}:18080/`)).toBe('ok');
  });

  it('resolves names of services', async () => {
    expect(await fetchFrom('client', 'http://web/cgi-bin/peer')).toMatch(/^web /);
    expect(await fetchFrom('client', 'http://web-pods.shop.svc.cluster.local:8080/cgi-bin/peer')).toMatch(/^web /);
  });

  it('runs commands in pods and keeps what they print', async () => {
    expect(await cluster.kubectlWith('hello', 'exec', '-i', '-n', 'shop', 'client', '--', 'sh', '-c', 'hostname; cat')).toBe(
      'client\nhello',
    );
    await cluster.apply([
      appPod({
        namespace: 'shop',
        name: 'speaker',
        command: ['echo', 'it is said'],
        spec: { restartPolicy: 'Never', dnsPolicy: 'Default' },
      }),
    ]);
    await until(
      'the log of pod speaker',
      async () => (await cluster.kubectl('logs', '-n', 'shop', 'speaker').catch(() => '')) === 'it is said\n',
    );
  });

  it('runs the echo server of the lab as a pod', async () => {
    await cluster.importImage(await echoImage(cluster.dir));
    const pod = appPod({ namespace: 'shop', name: 'echo', node: 'node1', image: ECHO_IMAGE });
    await cluster.apply([pod]);
    const { podIP } = statusOf(await ready('echo'));
    let answer = '';
    await until(
      'the echo server to answer',
      async () => (answer = await fetchFrom('client', `http://${podIP}:8080/`).catch(() => '')) !== '',
    );
    expect(JSON.parse(answer)).toMatchObject({ hostname: 'echo', peer: statusOf(await ready('client')).podIP });
    await cluster.remove([pod]);
    await cluster.podGone('shop', 'echo');
  });

  it('shows a privileged pod the node as a host shows itself', async () => {
    const mounts = ['/run/netns', '/sys/fs/bpf', '/opt/cni/bin', '/etc/cni/net.d', '/var/lib/culvert'];
    const hostPath = (path: string): object => ({ hostPath: { path, type: 'DirectoryOrCreate' } });
    await cluster.apply([
      appPod({
        namespace: 'shop',
        name: 'agent',
        node: 'node1',
        container: {
          securityContext: { privileged: true },
          volumeMounts: [
            ...mounts.map((path, index) => ({ name: `m${index}`, mountPath: path, mountPropagation: 'HostToContainer' })),
            { name: 'cgroup', mountPath: '/host/sys/fs/cgroup', mountPropagation: 'HostToContainer' },
          ],
        },
        spec: {
          hostNetwork: true,
          hostPID: true,
          volumes: [
            ...mounts.map((path, index) => ({ name: `m${index}`, ...hostPath(path) })),
            { name: 'cgroup', ...hostPath('/sys/fs/cgroup') },
          ],
        },
      }),
    ]);
    await ready('agent');
    const inAgent = (script: string): Promise<string> =>
      cluster.kubectl('exec', '-n', 'shop', 'agent', '--', 'sh', '-c', script).then((text) => text.trim());

    expect(await inAgent('readlink /proc/1/ns/net')).toBe((await node1.run(['readlink', '/proc/self/ns/net'])).trim());
    expect(await inAgent('stat -f -c %t /sys/fs/bpf')).toBe('cafe4a11');
    expect(await inAgent('cat /proc/sys/kernel/hostname')).toBe('node1');
    // The network namespaces of pods are mounted after this one began.
    const later = appPod({ namespace: 'shop', name: 'later', node: 'node1' });
    const count = async (): Promise<number> => Number(await inAgent('grep -c " /run/netns/cni-" /proc/self/mountinfo'));
    const earlier = await count();
    await cluster.apply([later]);
    await ready('later');
    expect(await count()).toBe(earlier + 1);

    // The whole of cgroup v2 is there, and in it the pod, below its node.
    const { pid } = await node1.sandbox('shop', 'later');
    const cgroup = (await node1.run(['cat', `/proc/${pid}/cgroup`])).split('\n').find((line) => line.startsWith('0::'))!;
    const inside = cgroup.slice('0::'.length);
    expect(inside).toMatch(new RegExp(`^/${node1.cgroup}/kubepods/besteffort/pod[0-9a-f-]{36}/[0-9a-f]{64}$`));
    const mounted = cgroup2Mount().replace('/sys/fs/cgroup', '/host/sys/fs/cgroup');
    expect((await inAgent(`cat ${mounted}${inside}/cgroup.procs`)).split('\n')).toContain(String(pid));

    await cluster.remove([later]);
    await cluster.podGone('shop', 'later');
    await until('its mount to go', async () => (await count()) === earlier);
  });

  it('keeps kubelet, containerd and kube-proxy in cgroups of their own, and kernel settings out of their reach', async () => {
    for (const component of ['kubelet', 'containerd', 'kube-proxy'] as const) {
      const pids = readFileSync(join(node1.componentCgroup(component), 'cgroup.procs'), 'utf8')
        .trim()
        .split('\n');
      expect(pids, component).toContain(String(cluster.pids()[`node1 ${component}`]));
    }
    expect(settings()).toEqual(before.settings);
    expect((await node1.exec(['sh', '-c', 'echo 1 >/proc/sys/kernel/threads-max'])).stderr).toMatch(/Read-only file system/);
    expect((await node1.exec(['mkdir', '/usr/libexec/kubernetes'])).stderr).toMatch(/Read-only file system/);
  });

  it('has containerd call STATUS of the plugins', async () => {
    const [plugin, calls] = ['/opt/cni/bin/bridge', '/run/cni-calls'];
    renameSync(node1.path(plugin), node1.path(`${plugin}.real`));
    writeFileSync(node1.path(plugin), `#!/bin/sh\necho "$CNI_COMMAND" >>${calls}\nexec ${plugin}.real\n`, { mode: 0o755 });
    const called = (): string[] => (existsSync(node1.path(calls)) ? readFileSync(node1.path(calls), 'utf8').trim().split('\n') : []);
    await until('STATUS', () => called().includes('STATUS'));
    renameSync(node1.path(`${plugin}.real`), node1.path(plugin));
  });

  it('makes a pod a new sandbox when its own was killed', async () => {
    const old = await ready('web');
    const sandbox = await node2.sandbox('shop', 'web');
    await node2.run(['kill', '-9', String(sandbox.pid)]);
    await until('another sandbox', async () => {
      const now = await node2.sandbox('shop', 'web').catch(() => undefined);
      return now !== undefined && now.id !== sandbox.id;
    });
    await until(
      'another address',
      async () => statusOf((await cluster.api.get('/api/v1/namespaces/shop/pods/web'))!).podIP !== statusOf(old).podIP,
    );
    const again = await ready('web');
    expect(again.metadata.uid).toBe(old.metadata.uid);
    expect(await fetchFrom('client', `http://${statusOf(again).podIP}:8080/`)).toBe('ok');
  });

  it('keeps pods while kubelet and containerd are restarted, and while the API server is away', async () => {
    const running = statusOf(await ready('client')).containerStatuses[0]!;
    const sandbox = await node1.sandbox('shop', 'client');
    await cluster.killApiServer();
    await node1.stop('kubelet');
    await node1.kill('containerd');
    await node1.start('containerd');
    await cluster.restartApiServer();
    await node1.start('kubelet');
    const pod = appPod({ namespace: 'shop', name: 'after', node: 'node1' });
    await cluster.apply([pod]);
    await ready('after');
    await cluster.nodeReady(node1);
    expect(await node1.sandbox('shop', 'client')).toEqual(sandbox);
    expect(statusOf(await ready('client')).containerStatuses[0]).toMatchObject(running);
  });
});

describe('clusters side by side', () => {
  it('do not meet, also with containerd 1.6 and nftables', { timeout: START_MS }, async (ctx) => {
    const version = debianContainerdVersion();
    if (!version.startsWith('1.6.')) ctx.skip(`needs containerd-1.6: the distribution has ${version}`);
    const clusters = await Promise.all([startCluster(), startCluster({ containerd: '1.6', proxyMode: 'nftables' })]);
    try {
      const web = [appPod({ namespace: 'default', name: 'web' }), appService('default', 'web', { app: 'web' }, { clusterIP: '10.96.7.7' })];
      for (const cluster of clusters) await cluster.apply(web);
      for (const [index, cluster] of clusters.entries()) {
        expect(statusOf(await cluster.podReady('default', 'web')).podIP).toMatch(/^10\.244\.1\./);
        const ask = ['curl', '-s', '--max-time', '2', 'http://10.96.7.7/cgi-bin/peer'];
        await until('the service to answer', async () => (await cluster.nodes[0]!.exec(ask)).stdout.startsWith('web '));
        const runtime = await cluster.kubectl('get', 'node', 'node1', '-o', 'jsonpath={.status.nodeInfo.containerRuntimeVersion}');
        expect(runtime).toMatch(index === 0 ? /^containerd:\/\/2\./ : /^containerd:\/\/1\.6\./);
      }
    } finally {
      await Promise.all(clusters.map((cluster) => cluster.close()));
    }
  });
});

describe('a test process that is killed', () => {
  it('takes its cluster with it, and the next one clears away the rest', { timeout: START_MS }, async () => {
    const child: ChildProcess = fork(new URL('../../support/cluster/standing.ts', import.meta.url), { stdio: 'inherit' });
    const gone = once(child, 'exit');
    try {
      const [standing] = (await once(child, 'message')) as [{ name: string; device: string; pids: number[] }];
      expect(traces(standing).length).toBeGreaterThan(standing.pids.length);
      child.kill('SIGKILL');
      await gone;
      await until('its processes to end', () => standing.pids.every((pid) => !existsSync(`/proc/${pid}`)));
      await sweep();
      expect(traces(standing)).toEqual([]);
    } finally {
      child.kill('SIGKILL');
      await gone;
    }
  });
});
