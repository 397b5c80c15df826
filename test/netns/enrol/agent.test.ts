/** An agent whose source names no netns: pods that run already are found, joined without losing a probe, followed, and let go. */
import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openPinnedMaps } from '../../../src/maps/index.ts';
import { settingsOf, tree, type Endpoint, type TestPod } from '../../support/netns.ts';
import { AgentScene, stop, until } from '../agent/scene.ts';

const APP = 8080;

describe('agent that finds its pods', () => {
  let scene: AgentScene;
  let a: TestPod;
  let b: TestPod;
  let app: Endpoint;
  let pause: Endpoint;
  let server: Endpoint;
  let kubelet: Endpoint;
  let agent: Awaited<ReturnType<AgentScene['startAgent']>>;
  let tunnel: ReturnType<AgentScene['startTunnel']>;
  const FLAGS = ['--grace-cap-ms', '500'];

  /** A process in a cgroup of the pod as kubelet's cgroupfs driver and containerd name it. */
  const container = (pod: TestPod): Promise<Endpoint> => {
    const path = ['kubepods', 'besteffort', `pod${scene.uidOf(pod)}`, randomBytes(32).toString('hex')];
    for (let depth = 1; depth <= path.length; depth++) scene.node.cgroupPath(path.slice(0, depth).join('/'));
    return scene.node.process(path.join('/'), pod.netns);
  };
  /** A runtime without a mount for it: from here on only processes lead to the netns. */
  const unmount = async (pod: TestPod): Promise<void> => scene.node.deletePod(pod);
  const greets = async (host: string): Promise<string | undefined> => {
    const answer = await app.call('connect', { host, port: APP });
    return answer.greeting?.by ?? answer.code;
  };
  const byAddress = (address: string): bigint | undefined => openPinnedMaps(join(scene.node.bpffs, 'n1/maps')).podByAddr.get(address);

  beforeAll(async () => {
    scene = await AgentScene.create('enrag', { unnamed: true });
    a = await scene.pod('a', 11);
    b = await scene.pod('b', 12);
    app = await container(a);
    pause = await container(b);
    server = await container(b);
    for (const [endpoint, name] of [
      [app, 'app-a'],
      [server, 'app-b'],
    ] as const)
      await endpoint.call('listen', { name, host: '::', port: APP });
    kubelet = await scene.node.process('kubelet', scene.node.nodeNetns);
  });
  afterAll(async () => {
    expect(tree(scene.node.bpffs).filter((name) => name.includes('pods/'))).toEqual([]);
    await scene.close();
    expect(existsSync(scene.dir)).toBe(false);
    expect(existsSync(scene.node.cgroupRoot)).toBe(false);
  });

  it('leaves labelled pods plain while there is no tunnel, though it found them', async () => {
    for (const [name, pod] of [
      ['a', a],
      ['b', b],
    ] as const)
      await kubelet.call('load', { name, host: pod.ip4, port: APP });
    const before = settingsOf(a.netnsName);
    scene.label('ambient');
    agent = await scene.startAgent(FLAGS);
    const pods = await scene.pods({ a: 'pending none', b: 'pending none' });
    await until(
      async () => (await scene.pods({})).every(({ reason }) => reason.includes('none is connected')),
      () => pods.map(({ reason }) => reason).join(),
    );
    expect(await greets(b.ip4)).toBe('app-b');
    // between two tries
    await until(
      () => settingsOf(a.netnsName) === before,
      () => settingsOf(a.netnsName),
    );
  });

  it('enrols them when there is one, and no probe failed from the start', async () => {
    tunnel = scene.startTunnel();
    await scene.pods({ a: 'enrolled active', b: 'enrolled active' });
    await scene.annotated(scene.uidOf(a), 'enabled');
    expect(await greets(b.ip4)).toBe('tunnel:15001');
    expect(await kubelet.call('connect', { host: b.ip6, port: APP })).toMatchObject({ greeting: { by: 'app-b' } });
    for (const name of ['a', 'b']) {
      const { ok, failed } = await kubelet.call('stop', { name });
      expect(failed).toEqual({});
      expect(ok).toBeGreaterThan(20);
    }
  });

  it('joins and leaves by label, again and again, without a probe lost', async () => {
    await kubelet.call('load', { name: 'toggled', host: b.ip4, port: APP });
    for (let round = 0; round < 3; round++) {
      scene.label(undefined);
      await scene.pods({ a: 'not-enrolled none', b: 'not-enrolled none' });
      scene.label('ambient');
      await scene.pods({ a: 'enrolled active', b: 'enrolled active' });
    }
    expect((await kubelet.call('stop', { name: 'toggled' })).failed).toEqual({});
  });

  it('follows a netns when the process ends by which it was found', async () => {
    scene.label(undefined);
    await scene.pods({ b: 'not-enrolled none' });
    await unmount(b);
    scene.label('ambient');
    const [, found] = await scene.pods({ a: 'enrolled active', b: 'enrolled active' });
    expect(scene.log).toContain(`/proc/${pause.pid}/ns/net`);
    const before = scene.log.length;
    await pause.kill();
    await until(
      () => scene.log.includes(`/proc/${server.pid}/ns/net`),
      () => scene.log.slice(-2000),
    );
    const [, now] = await scene.pods({ b: 'enrolled active' });
    expect(now?.netnsCookie).toBe(found?.netnsCookie);
    expect(scene.log.slice(before)).not.toMatch(/pod is (draining|removing|out)/);
    expect(await greets(b.ip4)).toBe('tunnel:15001');
  });

  it('finds it again after a restart, whoever has the number of the process that ended', async () => {
    await stop(agent, 'SIGKILL');
    agent = await scene.startAgent(FLAGS);
    await scene.pods({ a: 'enrolled active', b: 'enrolled active' });
    expect(await greets(b.ip4)).toBe('tunnel:15001');
    expect(scene.log).not.toContain('leftover removed');
  });

  it("moves to a sandbox made anew under the same uid, with another address; the old one is another pod's then", async () => {
    const old = b;
    scene.forget(b);
    await scene.pods({ a: 'enrolled active' });
    await server.kill();
    b = await scene.pod('b', 13);
    await container(b);
    server = await container(b);
    await server.call('listen', { name: 'app-b2', host: '::', port: APP });
    const [, again] = await scene.pods({ b: 'enrolled active' });
    expect(again?.uid).toBe(scene.uidOf(b));
    expect(byAddress(b.ip4)).toBe(BigInt(again?.netnsCookie ?? 0));
    expect(byAddress(old.ip4)).toBeUndefined();
    await until(
      async () => !(await scene.node.ipIn(`${scene.node.prefix}-node`, 'link show type veth')).includes(' v12@'),
      () => 'the old netns is held by somebody',
    );
    const c = await scene.pod('c', 12); // the address that b had
    await container(c);
    const pods = await scene.pods({ b: 'enrolled active', c: 'enrolled active' });
    expect(byAddress(old.ip4)).toBe(BigInt(pods.find(({ name }) => name === 'c')?.netnsCookie ?? 0));
    scene.forget(c);
    await until(
      () => byAddress(old.ip4) === undefined,
      () => scene.log.slice(-2000),
    );
  });

  it('follows an address that changes in a pod that is in', async () => {
    await scene.node.ipIn(b.netnsName, 'addr add 10.77.50.50/15 dev eth0', `addr del ${b.ip4}/16 dev eth0`);
    await until(
      () => byAddress('10.77.50.50') !== undefined && byAddress(b.ip4) === undefined,
      () => scene.log.slice(-2000),
    );
    await scene.pods({ b: 'enrolled active' });
  });

  it('goes by what the plugin announced to the agent before it, though no process tells of the pod', async () => {
    scene.label(undefined);
    await scene.pods({ a: 'not-enrolled none', b: 'not-enrolled none' });
    const d = await scene.pod('d', 14);
    expect(await scene.cni('add', d)).toMatchObject({ status: 200, body: { enrolled: false } });
    await stop(agent, 'SIGKILL');
    agent = await scene.startAgent(FLAGS);
    scene.label('ambient');
    await scene.pods({ d: 'enrolled active' });
    expect(await greets(d.ip4)).toBe('tunnel:15001');
    expect(await scene.cni('del', d)).toMatchObject({ status: 200 });
    await scene.pods({ d: 'pending none' });
    scene.forget(d);
    await scene.node.deletePod(d);
  });

  it('takes a pod out when nothing of it is left, and forgets all with the labels', async () => {
    await scene.pods({ a: 'enrolled active' });
    await unmount(a);
    await app.kill();
    await scene.pods({ a: 'pending none' });
    scene.label(undefined);
    await scene.pods({ a: 'not-enrolled none', b: 'not-enrolled none' });
    expect(scene.annotations()).toEqual({});
    expect(await stop(agent, 'SIGTERM')).toBe(0);
    await stop(tunnel, 'SIGKILL');
  });
});
