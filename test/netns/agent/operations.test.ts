/** The agent as a DaemonSet's pod operates: doors for kubelet and Prometheus, the plugin kept installed, and both ways to end. */
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import type { Server } from 'node:http';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Check } from '../../../src/agent/checks/check.ts';
import { type Endpoint, settingsOf, type TestPod, tree } from '../../support/netns.ts';
import { kindnet } from '../../support/install.ts';
import { get, serve } from './http.ts';
import { AgentScene, stop, until } from './scene.ts';

const DAEMON_SET = '/apis/apps/v1/namespaces/culvert-system/daemonsets/culvert-node';

describe('agent in operation', () => {
  let scene: AgentScene;
  let api: { port: number; server: Server };
  /** what the API server says of the DaemonSet: an object, the HTTP status of a refusal, or nothing at all */
  let daemonSet: object | number | 'none' = { metadata: { name: 'culvert-node' }, spec: { template: { spec: {} } } };
  const answers = (): Record<string, typeof daemonSet> => ({
    [DAEMON_SET]: daemonSet,
    '/api/v1/nodes/n1': { metadata: { name: 'n1' } },
    '/apis/authorization.k8s.io/v1/selfsubjectaccessreviews': { metadata: {}, status: { allowed: true } },
  });
  let asked: string[] = [];
  let a: TestPod;
  let b: TestPod;
  let app: Endpoint;
  let agent: Awaited<ReturnType<AgentScene['startAgent']>>;
  let before: string;

  const path = (...parts: string[]): string => join(scene.dir, ...parts);
  const conflist = (): string => readFileSync(path('net.d/10-kindnet.conflist'), 'utf8');
  const readyz = async (): Promise<string> => {
    const answer = await get(scene.node.nodeNetns, 8000, '/readyz');
    return answer === undefined ? 'nobody' : `${answer.status} ${answer.body.trim()}`;
  };
  const metrics = async (): Promise<string> => (await get(scene.node.nodeNetns, 15014, '/metrics'))?.body ?? '';
  const becomes = (wanted: string | RegExp, ask: () => Promise<string> = readyz): Promise<void> => {
    let last = '';
    return until(
      async () => ((last = await ask()), typeof wanted === 'string' ? last === wanted : wanted.test(last)),
      () => `${last}; agent: ${scene.log.slice(-3000)}`,
    );
  };
  const start = (...flags: string[]): ReturnType<AgentScene['startAgent']> =>
    scene.startAgent([
      ...['--install-plugin', '--plugin-path', path('built'), '--cni-bin-dir', path('bin'), '--cni-conf-dir', path('net.d')],
      ...['--daemon-set', 'culvert-system/culvert-node', '--kubeconfig', path('kubeconfig'), '--grace-cap-ms', '1000'],
      ...flags,
    ]);
  const connection = async (): Promise<unknown> =>
    ((await app.call('connect', { host: b.ip4, port: 8080 })) as { greeting?: { by: string } }).greeting?.by;

  beforeAll(async () => {
    scene = await AgentScene.create('ops');
    a = await scene.pod('a', 31);
    b = await scene.pod('b', 32);
    before = settingsOf(a.netnsName);
    app = await scene.node.process('app', a.netns);
    const server = await scene.node.process('app', b.netns);
    await server.call('listen', { name: 'app-b', host: '::', port: 8080 });
    await scene.node.ip('link set lo up');
    api = await serve(scene.node.nodeNetns, (request, response) => {
      asked.push(request.url ?? '');
      const answer = answers()[(request.url ?? '').split('?')[0] ?? ''] ?? 404;
      if (answer === 'none') return;
      if (typeof answer === 'number') response.writeHead(answer).end(JSON.stringify({ kind: 'Status', code: answer }));
      else response.end(JSON.stringify(answer));
    });
    const kubeconfig = {
      'current-context': 'plain',
      contexts: [{ name: 'plain', context: { cluster: 'plain', user: 'nobody' } }],
      clusters: [{ name: 'plain', cluster: { server: `http://127.0.0.1:${api.port}`, 'insecure-skip-tls-verify': true } }],
      users: [{ name: 'nobody', user: {} }],
    };
    writeFileSync(path('kubeconfig'), JSON.stringify(kubeconfig));
    writeFileSync(path('built'), '#!/bin/sh\n');
    mkdirSync(path('net.d'));
  });
  afterAll(async () => {
    api.server.close();
    api.server.closeAllConnections();
    await scene.close();
    expect(existsSync(scene.dir)).toBe(false);
  });

  it('says from the first moment why it is not ready, and is ready with the plugin in place, also without a tunnel', async () => {
    const starting = start();
    await becomes(/^503 not ready: /);
    agent = await starting;
    expect(agent.exitCode, scene.log).toBeNull();
    await becomes(/^503 not ready: the CNI plugin is not installed: waiting: there is no network configuration in .*net\.d yet$/);
    expect(await get(scene.node.nodeNetns, 8000, '/healthz')).toEqual({ status: 200, body: 'ok\n' });
    expect(await scene.status()).toMatchObject({ ready: false, install: { ready: false, file: '' } });
    writeFileSync(path('net.d/10-kindnet.conflist'), kindnet);
    await becomes('200 ready');
    expect(conflist()).toContain('"culvert-cni"');
    expect(readFileSync(path('bin/culvert-cni'), 'utf8')).toBe('#!/bin/sh\n');
    expect(await scene.status()).toMatchObject({
      ready: false,
      install: { ready: true, file: '10-kindnet.conflist', reason: '' },
      problems: ['no tunnel is connected: enrolled pods are refused'],
    });
  });

  it('puts back what somebody takes away', async () => {
    writeFileSync(path('net.d/10-kindnet.conflist'), kindnet);
    rmSync(path('bin/culvert-cni'));
    await becomes('yes', async () => (existsSync(path('bin/culvert-cni')) && conflist().includes('culvert-cni') ? 'yes' : 'no'));
    await becomes('200 ready');
  });

  it('tells Prometheus, with names that do not change', async () => {
    scene.label('ambient');
    scene.startTunnel();
    await scene.pods({ a: 'enrolled active', b: 'enrolled active' });
    await scene.annotated('uid-a', 'enabled');
    expect(await scene.cni('add', a)).toMatchObject({ status: 200 });
    expect(await connection()).toBe('tunnel:15001');
    let text = '';
    await until(
      async () => (text = await metrics()).includes('culvert_enrolment_duration_seconds_count{until="annotated"} 2\n'),
      () => text,
    );
    const families = [...text.matchAll(/^# TYPE (\S+) (\S+)$/gm)].map(([, name, type]) => `${name} ${type}`);
    const ours = families.filter((family) => !/^(nodejs|process)_/.test(family)).sort();
    await expect(`${ours.join('\n')}\n`).toMatchFileSnapshot('../../golden/agent-metrics.txt');
    expect(families.some((family) => family.startsWith('process_cpu'))).toBe(true);
    const value = (series: string): number => {
      const line = text.split('\n').find((each) => each.startsWith(`${series} `));
      if (line === undefined) throw new Error(`no ${series} in\n${text}`);
      return Number(line.slice(series.length + 1));
    };
    expect(value('ztunnel_connected')).toBe(1);
    expect(value('culvert_pods{state="enrolled"}')).toBe(2);
    expect(value('nodeagent_reconcile_events_total{type="add"}')).toBe(2);
    expect(value('istio_cni_install_ready')).toBe(1);
    expect(value('istio_cni_installs_total{result="SUCCESS"}')).toBeGreaterThanOrEqual(2);
    expect(value('istio_cni_plugin_requests_total{response_code="200"}')).toBe(1);
    expect(value('culvert_cni_request_duration_seconds_count{verb="add"}')).toBe(1);
    expect(value('culvert_connections_total{direction="outbound",verdict="redirected",reason="tunnel"}')).toBe(1);
    expect(value('culvert_enrolment_duration_seconds_count{until="active"}')).toBe(2);
    expect(value('culvert_enrolment_duration_seconds_count{until="annotated"}')).toBe(2);
    expect(value('culvert_zds_requests_total{request="add",result="ack"}')).toBeGreaterThanOrEqual(2);
    expect(value('culvert_map_entries{map="pods"}')).toBe(2);
    expect(value('culvert_map_max_entries{map="pods"}')).toBe(114);
    expect(value('culvert_source_synced')).toBe(1);
    expect(text).not.toContain('culvert_pod_connections_total');
  });

  it('is examined by the doctor', async () => {
    const examined = async (): Promise<Check[]> => (await scene.ask<{ checks: Check[] }>({ op: 'doctor' })).checks;
    const checks = await examined();
    expect(checks.filter(({ ok }) => !ok)).toEqual([]);
    const names = ['capabilities', 'procfs', 'node network', 'cgroup v2', 'bpffs', 'sysctls', 'kernel', 'hooks', 'sockets', 'CNI chain', 'API server', 'driver', 'source', 'tunnel', 'pods']; // prettier-ignore
    expect(checks.map(({ name }) => name)).toEqual(expect.arrayContaining(names));
    rmSync(path('bin'), { recursive: true });
    writeFileSync(path('bin'), ''); // nothing can be installed there
    expect((await examined()).find(({ name }) => name === 'CNI chain')).toMatchObject({ ok: false, detail: expect.stringContaining('culvert-cni is missing') as string }); // prettier-ignore
    await becomes(/^503 not ready: the CNI plugin is not installed: /);
    rmSync(path('bin'));
    await becomes('200 ready');
  });

  it('ends at once when it is told a second time, and leaves everything as it is', async () => {
    daemonSet = 'none';
    asked = [];
    const ended = new Promise((resolve) => agent.once('exit', (_, signal) => resolve(signal)));
    agent.kill('SIGTERM');
    await until(() => asked.includes(DAEMON_SET), () => scene.log); // prettier-ignore
    agent.kill('SIGTERM');
    expect(await ended).toBe('SIGTERM');
    expect(await connection()).toBe('tunnel:15001');
    expect(conflist()).toContain('culvert-cni');
    daemonSet = { metadata: { name: 'culvert-node' }, spec: { template: { spec: {} } } };
    agent = await start();
    await becomes('200 ready');
  });

  it('ends for an upgrade and leaves everything as it is', async () => {
    asked = [];
    expect(await stop(agent, 'SIGTERM')).toBe(0);
    expect(asked).toEqual([DAEMON_SET]);
    expect(await connection()).toBe('tunnel:15001');
    expect(conflist()).toContain('culvert-cni');
    expect(existsSync(path('bin/culvert-cni'))).toBe(true);
    expect(scene.annotations()['uid-a']).toEqual({ 'ambient.istio.io/redirection': 'enabled' });
  });

  it('when the API server does not say, takes only the plugin off: no traffic goes in the clear', async () => {
    daemonSet = 500;
    agent = await start('--pod-metrics');
    await becomes('200 ready');
    expect(await connection()).toBe('tunnel:15001');
    const text = await metrics();
    expect(text).toMatch(
      /culvert_pod_connections_total\{namespace="shop",pod="a",direction="outbound",verdict="redirected",reason="tunnel"\} \d/,
    );
    expect(text).toContain('culvert_connections_total{direction="outbound",verdict="redirected",reason="tunnel"} 1\n');
    expect(await stop(agent, 'SIGTERM')).toBe(0);
    expect(conflist()).not.toContain('culvert-cni');
    expect(existsSync(path('bin/culvert-cni'))).toBe(false);
    expect(await connection()).toBe('tunnel:15001');
  });

  it.each([
    ['the DaemonSet is gone', 404],
    ['once more', 404],
    [
      'it is meant for other nodes',
      { metadata: { name: 'culvert-node' }, spec: { template: { spec: { nodeSelector: { other: 'yes' } } } } },
    ],
    ['it is being deleted', { metadata: { name: 'culvert-node', deletionTimestamp: '2026-01-01T00:00:00Z' }, spec: {} }],
  ])('leaves nothing when %s', async (_, answer) => {
    daemonSet = answer;
    agent = await start();
    await scene.pods({ a: 'enrolled active', b: 'enrolled active' });
    await scene.annotated('uid-a', 'enabled');
    await becomes('200 ready');
    expect(await connection()).toBe('tunnel:15001');
    await app.call('load', { name: 'load', host: b.ip4, port: 8080 });
    expect(await stop(agent, 'SIGTERM'), scene.log).toBe(0);
    const { ok, failed } = await app.call('stop', { name: 'load' });
    expect(failed).toEqual({});
    expect(ok).toBeGreaterThan(10);
    expect(await connection()).toBe('app-b');
    expect(settingsOf(a.netnsName)).toBe(before);
    expect(scene.annotations()).toEqual({});
    expect(tree(scene.node.bpffs).filter((name) => !name.endsWith('.debug'))).toEqual([]); // those are the kernel's own
    expect(conflist()).not.toContain('culvert-cni');
    expect(readdirSync(path('bin'))).toEqual([]);
    for (const gone of ['run', 'state', 'zds.sock']) expect(existsSync(path(gone)), gone).toBe(false);
  });

  it('ends with the reason when nobody but an operator can mend the installation', async () => {
    writeFileSync(path('net.d/00-mine.conflist'), '{');
    agent = await start('--cni-conf-name', '00-mine.conflist');
    await until(() => agent.exitCode !== null, () => scene.log); // prettier-ignore
    expect(agent.exitCode).toBe(1);
    expect(scene.log).toContain('00-mine.conflist: it is not JSON');
  });
});
