/** The agent as a process, over the real datapath: enrols, verifies, survives, lets go; and leaves nothing. */
import { closeSync, existsSync, openSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { RedirectStatus, VerifyResult } from '../../../src/agent/api.ts';
import { type Endpoint, settingsOf, type TestPod, tree } from '../../support/netns.ts';
import { AgentScene, stop, until } from './scene.ts';

describe('agent', () => {
  let scene: AgentScene;
  let a: TestPod;
  let b: TestPod;
  let app: Endpoint;
  let agent: Awaited<ReturnType<AgentScene['startAgent']>>;
  let tunnel: ReturnType<AgentScene['startTunnel']>;
  let before: string;

  beforeAll(async () => {
    scene = await AgentScene.create();
    a = await scene.pod('a', 11);
    b = await scene.pod('b', 12);
    before = settingsOf(a.netnsName);
    app = await scene.node.process('app', a.netns);
    const server = await scene.node.process('app', b.netns);
    await server.call('listen', { name: 'app-b', host: '::', port: 8080 });
    agent = await scene.startAgent(['--grace-cap-ms', '2000']);
  });
  afterAll(async () => {
    const { bpffs } = scene.node;
    expect(
      tree(bpffs)
        .filter((name) => name.includes('pods/'))
        .join(),
    ).toBe('');
    await scene.close();
    expect(existsSync(scene.dir)).toBe(false);
  });
  const connect = (pod: TestPod, host = pod.ip4): ReturnType<Endpoint['call']> => app.call('connect', { host, port: 8080 });

  it('knows its pods, and that it has no tunnel', async () => {
    expect(agent.exitCode, scene.log).toBeNull();
    await scene.pods({ a: 'not-enrolled none', b: 'not-enrolled none' });
    expect(await scene.status()).toMatchObject({
      node: 'n1',
      ready: false,
      driver: { name: 'ebpf' },
      tunnel: { kind: 'builtin', connections: [] },
      source: { kind: 'file', synced: true },
    });
    expect(await scene.cni('add', a)).toMatchObject({ status: 200, body: { enrolled: false } });
    expect(await connect(b)).toMatchObject({ ok: true, greeting: { by: 'app-b' } });
  });

  it('leaves labelled pods plain and pending while there is no tunnel, and refuses new ones', async () => {
    scene.label('ambient');
    const pods = await scene.pods({ a: 'pending none', b: 'pending none' });
    expect(pods[0]?.reason).toContain('none is connected');
    await scene.annotated('uid-a', 'pending');
    expect(await connect(b)).toMatchObject({ ok: true, greeting: { by: 'app-b' } });
    expect(await scene.cni('add', a)).toMatchObject({ status: 500, body: { error: { code: 'ZDS_NO_TUNNEL', retryable: true } } });
  });

  it('enrols them when a tunnel connects', async () => {
    tunnel = scene.startTunnel();
    const pods = await scene.pods({ a: 'enrolled active', b: 'enrolled active' });
    expect(pods[0]).toMatchObject({ reason: 'namespace label istio.io/dataplane-mode=ambient', driver: 'ebpf' });
    await scene.annotated('uid-a', 'enabled');
    expect(await connect(b)).toMatchObject({ ok: true, greeting: { by: 'tunnel:15001' } });
    expect(await connect(b, b.ip6)).toMatchObject({ ok: true, greeting: { by: 'tunnel:15001' } });
    expect(await scene.status()).toMatchObject({ ready: true, pods: { enrolled: 2, pending: 0, notEnrolled: 0 } });
    expect((await scene.cni('add', a)).body).toMatchObject({ enrolled: true });
    const written = JSON.parse(readFileSync(join(scene.dir, 'state/enrolment.json'), 'utf8')) as object;
    expect(written).toMatchObject({ version: 1, node: 'n1', namespaces: { shop: { enrolled: true } } });
  });

  it('verifies by real connections, and says what is not so', async () => {
    const results = await scene.ask<VerifyResult[]>({ op: 'verify' });
    expect(
      results.map(({ pod, ok, outbound, inbound }) => [pod, ok, outbound, inbound]),
      JSON.stringify(results),
    ).toMatchObject([
      ['shop/a', true, { ok: true }, { ok: true }],
      ['shop/b', true, { ok: true }, { ok: true }],
    ]);
    await expect(scene.ask({ op: 'verify', pod: 'shop/nobody' })).rejects.toThrow('POD_UNKNOWN');
    expect(await scene.node.ipIn(`${scene.node.prefix}-node`, 'link show type veth')).not.toContain('cvt-vfy');
  });

  it('refuses to run twice', async () => {
    const log = scene.log;
    const second = await scene.startAgent();
    await until(
      () => second.exitCode !== null,
      () => scene.log,
    );
    expect(second.exitCode).not.toBe(0);
    scene.log = log;
    expect(await connect(b)).toMatchObject({ ok: true, greeting: { by: 'tunnel:15001' } });
  });

  it('may be killed: traffic goes on, and the next one takes up everything without cutting a connection', async () => {
    expect(await app.call('open', { name: 'kept', host: b.ip4, port: 8080 })).toMatchObject({ greeting: { by: 'tunnel:15001' } });
    await stop(agent, 'SIGKILL');
    expect(await connect(b)).toMatchObject({ ok: true, greeting: { by: 'tunnel:15001' } });
    await app.call('load', { name: 'load', host: b.ip4, port: 8080 });
    agent = await scene.startAgent(['--grace-cap-ms', '2000']);
    await scene.pods({ a: 'enrolled active', b: 'enrolled active' });
    await until(
      async () => (await scene.status()).ready,
      () => scene.log,
    );
    const { ok, failed } = await app.call('stop', { name: 'load' });
    expect(failed).toEqual({});
    expect(ok).toBeGreaterThan(10);
    expect(await app.call('echo', { name: 'kept', text: 'still here' })).toEqual({ ok: true });
    expect((await scene.ask<VerifyResult[]>({ op: 'verify' })).map((result) => result.ok)).toEqual([true, true]);
  });

  it('refuses at once when the tunnel is killed, and is back with the next one', async () => {
    await stop(tunnel, 'SIGKILL');
    await until(
      async () => (await scene.status()).tunnel.connections.length === 0,
      () => scene.log,
    );
    expect(await connect(b)).toMatchObject({ ok: false, code: 'ECONNREFUSED' });
    await scene.pods({ a: 'enrolled active', b: 'enrolled active' });
    const [verdict] = await scene.ask<VerifyResult[]>({ op: 'verify', pod: 'shop/a' });
    expect(verdict).toMatchObject({ ok: false });
    expect(verdict?.outbound.detail).toContain('refused');
    tunnel = scene.startTunnel('ztunnel2');
    await until(
      async () => (await scene.status()).ready,
      () => scene.log,
    );
    await until(
      async () => ((await connect(b)) as { ok: boolean }).ok,
      () => scene.log,
    );
    expect(scene.log).not.toContain('tunnel can not be told');
  });

  it('puts a netns behind the redirect by hand, and takes it out', async () => {
    const c = await scene.node.pod('c', 13);
    const fd = openSync(c.netns, 'r');
    const was = settingsOf(c.netnsName);
    try {
      expect(await scene.ask<RedirectStatus>({ op: 'redirect-show' }, fd)).toMatchObject({ datapath: 'none' });
      expect(await scene.ask<RedirectStatus>({ op: 'redirect-on' }, fd)).toMatchObject({ datapath: 'active' });
      const hand = await scene.node.process('app', c.netns);
      expect(await hand.call('connect', { host: b.ip4, port: 8080 })).toMatchObject({ code: 'ECONNREFUSED' });
      expect(await scene.ask<RedirectStatus>({ op: 'redirect-off' }, fd)).toMatchObject({ datapath: 'none' });
      expect(await hand.call('connect', { host: b.ip4, port: 8080 })).toMatchObject({ ok: true });
      expect(settingsOf(c.netnsName)).toBe(was);
    } finally {
      closeSync(fd);
    }
    await expect(scene.ask({ op: 'redirect-on' })).rejects.toThrow('no network namespace came');
  });

  it('lets go when the label goes: new connections are plain, the netns is as before', async () => {
    scene.label(undefined);
    await until(
      async () => ((await connect(b)) as { greeting?: { by: string } }).greeting?.by === 'app-b',
      () => scene.log,
    );
    await scene.pods({ a: 'not-enrolled none', b: 'not-enrolled none' });
    expect(scene.annotations()).toEqual({});
    expect(settingsOf(a.netnsName)).toBe(before);
  });

  it('enrols a new pod in ADD, and forgets it after DEL', async () => {
    scene.label('ambient');
    await scene.pods({ a: 'enrolled active' });
    const d = await scene.pod('d', 14);
    expect(await scene.cni('add', d)).toMatchObject({ status: 200, body: { enrolled: true } });
    await scene.pods({ d: 'enrolled active' });
    expect(await scene.cni('del', d)).toMatchObject({ status: 200 });
    await scene.pods({ d: 'pending none' });
    await scene.node.deletePod(d);
    scene.forget(d);
    await until(
      async () => !(await scene.pods({})).some((pod) => pod.name === 'd'),
      () => scene.log,
    );
  });

  it('ends on SIGTERM and leaves the pods working; what was deleted meanwhile goes at the next start', async () => {
    expect(await stop(agent, 'SIGTERM')).toBe(0);
    expect(await connect(b)).toMatchObject({ ok: true, greeting: { by: 'tunnel:15001' } });
    scene.forget(b);
    scene.forget(a);
    agent = await scene.startAgent();
    await until(
      () => tree(scene.node.bpffs).every((name) => !name.includes('pods/')),
      () => `${tree(scene.node.bpffs).join(' ')} ${scene.log.slice(-2000)}`,
    );
    expect(settingsOf(a.netnsName)).toBe(before);
    expect(await stop(agent, 'SIGTERM')).toBe(0);
  });
});
