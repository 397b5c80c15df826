/**
 * The agent as a process on a real API server, with the permissions that its documentation lists: pods' objects are the server's,
 * their network namespaces real, datapath and tunnel too; what is missing of a node is kubelet and runtime.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import type { KubeObject } from '../../../src/kubernetes/api.ts';
import { AgentScene, stop } from '../../netns/agent/scene.ts';
import { startApiServer, type ApiServer } from '../../support/apiserver.ts';
import { childrenOf } from '../../support/kubernetes/component.ts';
import { grantDocumented, subjectOf } from '../../support/kubernetes/permissions.ts';
import { settingsOf, tree, type Endpoint, type TestPod } from '../../support/netns.ts';

const KEY = 'ambient.istio.io/redirection';
const MODE = 'istio.io/dataplane-mode';
const ACCOUNT = { namespace: 'culvert-system', name: 'culvert-node' };
const NAMESPACE = '/api/v1/namespaces/shop';
const TOGGLES = 20;
const until = (check: () => unknown): Promise<unknown> => vi.waitFor(check, { timeout: 40_000, interval: 10 });

describe('agent with the Kubernetes source', () => {
  let server: ApiServer;
  let scene: AgentScene;
  let kubeconfig: string;
  let agent: Awaited<ReturnType<AgentScene['startAgent']>>;
  let tunnel: ReturnType<AgentScene['startTunnel']>;
  let a: TestPod;
  let b: TestPod;
  let app: Endpoint;
  let before: string;
  const processes: ChildProcess[] = [];

  beforeAll(async () => {
    server = await startApiServer();
    await server.createNamespace(ACCOUNT.namespace);
    await grantDocumented(server.adminApi, 'kubernetes.md', ACCOUNT);
    kubeconfig = await server.userKubeconfig('agent', subjectOf(ACCOUNT));
    await server.createNamespace('shop');
    await server.objects.node('n1');
    await server.adminApi.create(`/apis/apps/v1/namespaces/${ACCOUNT.namespace}/daemonsets`, daemonSet(ACCOUNT.name));
    scene = await AgentScene.create('k8s');
    await firstProcess();
    scene.agentNetns = '/proc/self/ns/net'; // the API server is on the machine's loopback
    a = await pod('a', 11);
    b = await pod('b', 12);
    before = settingsOf(a.netnsName);
    for (const each of [a, b]) container(each);
    app = await scene.node.process('app', a.netns);
    const serving = await scene.node.process('app', b.netns);
    await serving.call('listen', { name: 'app-b', host: '::', port: 8080 });
    tunnel = scene.startTunnel();
  });
  afterAll(async () => {
    const left = tree(scene.node.bpffs).filter((name) => name.includes('pods/'));
    for (const child of processes.reverse()) await stop(child, 'SIGKILL');
    await scene.close();
    await server.close();
    expect(left).toEqual([]);
    expect([existsSync(scene.dir), existsSync(server.dir)]).toEqual([false, false]);
  });

  const start = async (): Promise<void> => {
    const flags = ['--source', 'kubernetes', '--kubeconfig', kubeconfig, '--metrics-port', '0', '--health-port', '0'];
    flags.push('--daemon-set', `${ACCOUNT.namespace}/${ACCOUNT.name}`);
    agent = await scene.startAgent([...flags, '--grace-cap-ms', '2000', '--leave-deadline-ms', '0']);
    expect(agent.exitCode, scene.log).toBeNull();
  };
  const label = (mode: string | null): Promise<KubeObject> =>
    server.adminApi.patch(NAMESPACE, { metadata: { labels: { [MODE]: mode } } }, 'merge');
  const object = async (name: string): Promise<KubeObject | undefined> => server.adminApi.get(`${NAMESPACE}/pods/${name}`);
  const annotation = async (name: string): Promise<string | undefined> => (await object(name))?.metadata.annotations?.[KEY];
  const annotated = (name: string, value: string | undefined): Promise<unknown> =>
    until(async () => expect(await annotation(name), scene.log.slice(-3000)).toBe(value));
  const connect = (): ReturnType<Endpoint['call']> => app.call('connect', { host: b.ip4, port: 8080 });

  /** Its namespace and its object, with the addresses that a runtime would have given it. */
  async function pod(name: string, n: number): Promise<TestPod> {
    const made = await scene.node.pod(name, n);
    const { metadata } = await server.objects.pod({ namespace: 'shop', name, node: 'n1', ips: [made.ip4, made.ip6] });
    scene.uids.set(name, metadata.uid!);
    return made;
  }

  /** The node has process numbers of its own, and the first of its processes is in its network namespace. */
  async function firstProcess(): Promise<void> {
    const script = 'mount -t proc proc /proc && exec nsenter --net="$0" sleep infinity';
    const own = ['unshare', '--pid', '--fork', '--kill-child', '--mount', '--propagation', 'slave'];
    const child = spawn('setpriv', ['--pdeathsig', 'KILL', ...own, 'sh', '-c', script, scene.node.nodeNetns], { stdio: 'inherit' });
    processes.push(child);
    const first = (): number => childrenOf(child.pid ?? 0)[0] ?? 0;
    await until(() => expect(readFileSync(`/proc/${first()}/comm`, 'utf8')).toBe('sleep\n'));
    scene.enter = ['nsenter', '-t', String(first()), '-p', '-m', '--'];
  }

  /** A process in the pod and in a cgroup such as kubelet makes. */
  function container(of: TestPod): void {
    const pods = `kubepods/pod${scene.uids.get(of.name)}`;
    const cgroups = ['kubepods', pods, `${pods}/${randomBytes(32).toString('hex')}`].map((path) => scene.node.cgroupPath(path));
    const command = [...scene.enter, 'nsenter', `--net=${of.netns}`, 'sleep', 'infinity'];
    processes.push(spawn('sh', ['-c', 'echo $$ > "$0/cgroup.procs" && exec "$@"', cgroups.at(-1)!, ...command], { stdio: 'inherit' }));
  }

  it('waits for an API server that is away, and says so once', async () => {
    await server.kill();
    await start();
    await until(() => expect(scene.log).toContain('source has faults; nothing is known yet'));
    await new Promise((resolve) => setTimeout(resolve, 1000)); // some attempts more
    expect(scene.log.match(/source has faults/g)).toHaveLength(1);
    expect(await scene.status()).toMatchObject({ ready: false, source: { kind: 'kubernetes', synced: false } });
    await server.restart();
    await until(async () => expect(await scene.status()).toMatchObject({ ready: true, source: { kind: 'kubernetes', synced: true } }));
    await scene.pods({ a: 'not-enrolled none', b: 'not-enrolled none' });
  });

  it('enrols by the label of the namespace what the plugin announced and what it found itself', async () => {
    expect(await scene.cni('add', a)).toMatchObject({ status: 200, body: { enrolled: false } });
    await label('ambient');
    await annotated('a', 'enabled');
    await annotated('b', 'enabled');
    await scene.pods({ a: 'enrolled active', b: 'enrolled active' });
    expect(await connect()).toMatchObject({ ok: true, greeting: { by: 'tunnel:15001' } });
    const managed = (await object('a'))?.metadata as { managedFields?: { manager: string; subresource?: string }[] };
    expect(managed.managedFields?.filter(({ manager }) => manager === 'culvert-agent')).toMatchObject([{ subresource: 'status' }]);
    await label(null);
    await annotated('a', undefined);
    await annotated('b', undefined);
    await scene.pods({ a: 'not-enrolled none', b: 'not-enrolled none' });
    expect(await connect()).toMatchObject({ ok: true, greeting: { by: 'app-b' } });
    expect(settingsOf(a.netnsName)).toBe(before);
  });

  it('follows labels as fast as they change', async () => {
    /** when a watch of our own saw each value */
    const seen: { value: string | undefined; at: number }[] = [];
    const stopped = new AbortController();
    const { resourceVersion } = await server.adminApi.list(`${NAMESPACE}/pods`);
    const watch = server.adminApi.watch(
      `${NAMESPACE}/pods`,
      { resourceVersion, fieldSelector: 'metadata.name=a' },
      ({ object: { metadata } }) => seen.push({ value: metadata.annotations?.[KEY], at: performance.now() }),
      stopped.signal,
    );
    const times: Record<'on' | 'off', number[]> = { on: [], off: [] };
    for (let i = 0; i < TOGGLES; i++) {
      for (const [mode, value, list] of [
        ['ambient', 'enabled', times.on],
        [null, undefined, times.off],
      ] as const) {
        seen.length = 0;
        await label(mode);
        const asked = performance.now();
        await vi.waitFor(() => expect(seen.at(-1)).toMatchObject({ value }), { timeout: 20_000, interval: 2 });
        list.push(seen.at(-1)!.at - asked);
        await scene.pods(mode === null ? { a: 'not-enrolled none' } : { a: 'enrolled active' });
      }
    }
    stopped.abort();
    await watch;
    for (const [what, list] of Object.entries(times)) {
      const sorted = list.sort((x, y) => x - y).map((ms) => ms.toFixed(1));
      console.log(
        `label ${what} to annotation, ms after the call returned: p50 ${sorted[TOGGLES / 2]}, max ${sorted.at(-1)} of ${TOGGLES}`,
      );
    }
  });

  it('knows pods that cannot join, and says why', async () => {
    await server.objects.pod({ namespace: 'shop', name: 'host', node: 'n1', hostNetwork: true, ips: ['192.168.0.1'] });
    await server.objects.pod({ namespace: 'shop', name: 'bare', node: 'n1' });
    await server.objects.pod({ namespace: 'shop', name: 'far', node: 'n2', ips: ['10.9.9.9'] });
    await server.objects.pod({
      ...{ namespace: 'shop', name: 'odd', node: 'n1', ips: ['10.9.9.8'] },
      annotations: { 'ambient.istio.io/dns-capture': 'perhaps' },
    });
    await label('ambient');
    await annotated('a', 'enabled');
    const pods = await scene.pods({ host: 'not-enrolled none', bare: 'pending none', odd: 'pending none' });
    expect(pods.map(({ name }) => name)).toEqual(['a', 'b', 'bare', 'host', 'odd']);
    expect(pods.find(({ name }) => name === 'host')?.reason).toContain('host network');
    expect(scene.log).toContain('annotation ambient.istio.io/dns-capture=\\"perhaps\\" is not a boolean and is ignored');
    for (const name of ['host', 'bare', 'odd', 'far']) {
      expect(await annotation(name)).toBeUndefined();
      await server.objects.removePod('shop', name);
    }
    await until(async () => expect((await scene.pods({})).map(({ name }) => name)).toEqual(['a', 'b']));
  });

  it('shows at the pod why it cannot be enrolled', async () => {
    await stop(tunnel, 'SIGKILL');
    await until(async () => expect((await scene.status()).tunnel.connections).toEqual([]));
    const c = await pod('c', 13);
    expect(await scene.cni('add', c)).toMatchObject({ status: 500, body: { error: { code: 'ZDS_NO_TUNNEL' } } });
    await annotated('c', 'pending');
    await until(async () => {
      const { items } = await server.adminApi.list(`${NAMESPACE}/events`, { fieldSelector: `involvedObject.uid=${scene.uids.get('c')}` });
      expect(items).toMatchObject([
        {
          type: 'Warning',
          reason: 'EnrolmentFailed',
          involvedObject: { kind: 'Pod', name: 'c' },
          source: { component: 'culvert-agent', host: 'n1' },
        },
      ]);
      expect(items[0]?.['message']).toContain('none is connected');
    });
    tunnel = scene.startTunnel('ztunnel2');
    await annotated('c', 'enabled');
    expect(await scene.cni('del', c)).toMatchObject({ status: 200 });
    await server.objects.removePod('shop', 'c');
    await until(async () => expect((await scene.pods({})).map(({ name }) => name)).toEqual(['a', 'b']));
    await scene.node.deletePod(c);
  });

  it('goes on without the API server: enrolled pods work, and a new one that is known is enrolled', async () => {
    const d = await pod('d', 14);
    await until(async () => expect((await scene.pods({})).map(({ name }) => name)).toEqual(['a', 'b', 'd']));
    await server.kill();
    expect(await connect()).toMatchObject({ ok: true, greeting: { by: 'tunnel:15001' } });
    expect(await scene.cni('add', d)).toMatchObject({ status: 200, body: { enrolled: true } });
    await scene.pods({ a: 'enrolled active', b: 'enrolled active', d: 'enrolled active' });
    await server.restart();
    await annotated('d', 'enabled');
    await server.objects.removePod('shop', 'd');
    await until(async () => expect((await scene.pods({})).map(({ name }) => name)).toEqual(['a', 'b']));
    await scene.node.deletePod(d);
  });

  it('may be killed; the next one takes up what it finds, and what changed meanwhile', async () => {
    await stop(agent, 'SIGKILL');
    expect(await connect()).toMatchObject({ ok: true, greeting: { by: 'tunnel:15001' } });
    await server.adminApi.patch(`${NAMESPACE}/pods/b`, { metadata: { labels: { [MODE]: 'none' } } }, 'merge');
    await start();
    await annotated('b', undefined);
    await scene.pods({ a: 'enrolled active', b: 'not-enrolled none' });
    expect(await annotation('a')).toBe('enabled');
    await server.adminApi.patch(`${NAMESPACE}/pods/b`, { metadata: { labels: { [MODE]: null } } }, 'merge');
    await annotated('b', 'enabled');
    expect(await connect()).toMatchObject({ ok: true, greeting: { by: 'tunnel:15001' } });
  });

  it('lets go of a pod that has ended, of one that is made anew under its name, and of those of a namespace that goes', async () => {
    const job = await pod('job', 15);
    expect(await scene.cni('add', job)).toMatchObject({ body: { enrolled: true } });
    await annotated('job', 'enabled');
    await server.objects.podStatus('shop', 'job', { phase: 'Succeeded' });
    await annotated('job', undefined);
    await scene.pods({ job: 'not-enrolled none' });
    await server.objects.removePod('shop', 'job');
    await scene.node.deletePod(job);
    const again = await pod('job', 16);
    expect(await scene.cni('add', again)).toMatchObject({ body: { enrolled: true } });
    await annotated('job', 'enabled');

    await server.adminApi.remove(NAMESPACE); // labelled as it is; its pods go first
    for (const name of ['a', 'b', 'job']) await server.objects.removePod('shop', name);
    await until(async () => expect(await scene.pods({})).toEqual([]));
    expect(settingsOf(a.netnsName)).toBe(before);
    await scene.node.deletePod(again);
    expect(await stop(agent, 'SIGTERM'), scene.log.slice(-3000)).toBe(0);
    expect(scene.log).toContain('"daemonSet":"present"'); // it could ask for itself and its node
  });
});

function daemonSet(name: string): KubeObject {
  const labels = { app: name };
  const spec = { containers: [{ name: 'agent', image: 'none' }] };
  return { metadata: { name }, spec: { selector: { matchLabels: labels }, template: { metadata: { labels }, spec } } };
}
