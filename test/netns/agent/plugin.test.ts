/** The plugin as a process, against a real agent over the real datapath: ADD, CHECK, DEL, GC and STATUS of pods with real netns. */
import { spawn } from 'node:child_process';
import { readdirSync, unlinkSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { tree, type TestPod } from '../../support/netns.ts';
import { AgentScene, stop, until } from './scene.ts';

const ENTRY = new URL('../../../src/main.ts', import.meta.url).pathname;

interface Answer {
  code: number | null;
  stdout: string;
  stderr: string;
}

describe('plugin and agent', () => {
  let scene: AgentScene;
  let a: TestPod;
  let b: TestPod;
  let agent: Awaited<ReturnType<AgentScene['startAgent']>>;
  let tunnel: ReturnType<AgentScene['startTunnel']>;

  beforeAll(async () => {
    scene = await AgentScene.create('cni');
    a = await scene.pod('a', 21);
    b = await scene.pod('b', 22);
    scene.label('ambient');
    agent = await scene.startAgent();
    tunnel = scene.startTunnel();
    await scene.pods({ a: 'enrolled active', b: 'enrolled active' });
  });
  afterAll(async () => {
    await scene.close();
  });

  const plugin = (command: string, conf: Record<string, unknown>, env: Record<string, string> = {}): Promise<Answer> =>
    new Promise((resolve) => {
      const child = spawn(process.execPath, [ENTRY], { env: { PATH: process.env['PATH'], CNI_COMMAND: command, ...env } });
      const answer: Answer = { code: null, stdout: '', stderr: '' };
      child.stdout.on('data', (chunk: Buffer) => (answer.stdout += chunk.toString()));
      child.stderr.on('data', (chunk: Buffer) => (answer.stderr += chunk.toString()));
      child.on('close', (code) => {
        resolve({ ...answer, code });
      });
      child.stdin.on('error', () => undefined); // a plugin that read enough
      const base = {
        cniVersion: '1.1.0',
        name: 'k8s',
        type: 'culvert-cni',
        runDir: join(scene.dir, 'run'),
        stateDir: join(scene.dir, 'state'),
      };
      child.stdin.end(JSON.stringify({ ...base, ...conf }));
    });
  const result = (pod: TestPod): Record<string, unknown> => ({
    cniVersion: '1.1.0',
    interfaces: [{ name: 'eth0', mac: '00:00:5e:00:53:01', sandbox: pod.netns, mtu: 1450 }],
    ips: [
      { interface: 0, address: `${pod.ip4}/16` },
      { interface: 0, address: `${pod.ip6}/64` },
    ],
    routes: [{ dst: '0.0.0.0/0', gw: '10.77.0.1', advmss: 1400 }],
  });
  const env = (pod: TestPod, containerId: string): Record<string, string> => ({
    CNI_CONTAINERID: containerId,
    CNI_NETNS: pod.netns,
    CNI_IFNAME: 'eth0',
    CNI_ARGS: `K8S_POD_UID=uid-${pod.name};IgnoreUnknown=1;K8S_POD_NAME=${pod.name};K8S_POD_NAMESPACE=shop`,
  });
  const add = (pod: TestPod, containerId: string): Promise<Answer> => plugin('ADD', { prevResult: result(pod) }, env(pod, containerId));
  const check = (pod: TestPod, containerId: string, prevResult = result(pod)): Promise<Answer> =>
    plugin('CHECK', { prevResult }, env(pod, containerId));
  const attachments = (): string[] => readdirSync(join(scene.dir, 'run/attachments')).toSorted();

  it('ADD answers prevResult, several at once', async () => {
    const answers = await Promise.all([add(a, 'c-a'), add(b, 'c-b')]);
    expect(answers.map(({ code, stdout }) => [code, JSON.parse(stdout) as unknown])).toEqual([
      [0, result(a)],
      [0, result(b)],
    ]);
    expect(attachments()).toEqual(['c-a@eth0.json', 'c-b@eth0.json']);
  });

  it('CHECK says yes, and names what was taken away from the datapath', async () => {
    expect(await check(a, 'c-a')).toMatchObject({ code: 0, stdout: '' });
    const wrong = await check(a, 'c-a', { ...result(a), ips: [{ address: '10.77.9.9/16' }] });
    expect(JSON.parse(wrong.stdout)).toMatchObject({ code: 103, msg: 'check pod shop/a: its netns does not have address 10.77.9.9' });
    const elsewhere = await plugin('CHECK', { prevResult: result(a) }, { ...env(a, 'c-a'), CNI_NETNS: b.netns });
    expect(JSON.parse(elsewhere.stdout)).toMatchObject({ code: 103, msg: expect.stringContaining(`not in ${b.netns}`) as string });
    const gone = await plugin('CHECK', { prevResult: result(a) }, { ...env(a, 'c-a'), CNI_NETNS: '/var/run/netns/cvt-none' });
    expect(JSON.parse(gone.stdout)).toMatchObject({ code: 3 });

    const [pod] = await scene.pods({ a: 'enrolled active' });
    const directory = BigInt(pod?.netnsCookie ?? 0).toString(16);
    unlinkSync(join(scene.node.bpffs, 'n1/pods', directory, 'lookup')); // the kernel detaches it soon
    await scene.node.sysctl(a, 'net/ipv4/fwmark_reflect', '0');
    const broken = await check(a, 'c-a');
    expect(JSON.parse(broken.stdout)).toMatchObject({
      cniVersion: '1.1.0',
      code: 103,
      msg: 'check pod shop/a: its sk_lookup link is not pinned; in its netns net.ipv4.fwmark_reflect = 1 is missing',
    });
    await stop(agent, 'SIGTERM');
    agent = await scene.startAgent(); // repairs
    await scene.pods({ a: 'enrolled active' });
    expect(await check(a, 'c-a')).toMatchObject({ code: 0, stdout: '' });
  });

  it('DEL by the container id alone takes that sandbox out, for an agent that was started since; three times is once', async () => {
    const bare = { CNI_CONTAINERID: 'c-a', CNI_NETNS: '', CNI_IFNAME: 'eth0', CNI_ARGS: '' };
    expect(await plugin('DEL', {}, { ...bare, CNI_CONTAINERID: 'c-unknown' })).toMatchObject({ code: 0, stdout: '', stderr: '' });
    await scene.pods({ a: 'enrolled active' });
    for (let n = 0; n < 3; n++) {
      expect(await plugin('DEL', {}, bare)).toMatchObject({ code: 0, stdout: '', stderr: '' });
      await scene.pods({ a: 'pending none', b: 'enrolled active' });
    }
    expect(attachments()).toEqual(['c-b@eth0.json']);
    expect(JSON.parse((await check(a, 'c-a')).stdout)).toMatchObject({
      code: 103,
      msg: expect.stringContaining('its sandbox was removed') as string,
    });
  });

  it('GC takes out what the runtime forgot, and leaves alone in what processes run', async () => {
    const d = await scene.pod('d', 24);
    expect((await add(d, 'c-d')).code).toBe(0);
    const live = await scene.node.process('app', b.netns);
    const valid = { 'cni.dev/valid-attachments': [], 'cni.dev/attachments': [] };
    expect(await plugin('GC', { ...valid, name: 'another' })).toMatchObject({ code: 0, stderr: '' });
    const collected = await plugin('GC', valid);
    expect(collected).toMatchObject({ code: 0, stdout: '' });
    expect(collected.stderr).toMatch(/let go of shop\/d c-d\n.*shop\/b c-b is not among the valid attachments, but processes run in it/);
    await scene.pods({ b: 'enrolled active', d: 'pending none' });
    expect(attachments()).toEqual(['c-b@eth0.json']);
    await live.kill();
    await scene.node.deletePod(d);
    scene.forget(d);
  });

  it('STATUS follows the policy', async () => {
    const ask = (): Promise<Answer> => plugin('STATUS', { statusPolicy: 'agent-ready' }, { CNI_CONTAINERID: '', CNI_NETNS: '' });
    expect(await ask()).toMatchObject({ code: 0, stdout: '' });
    await stop(tunnel, 'SIGKILL');
    await until(
      async () => !(await scene.status()).ready,
      () => scene.log,
    );
    expect(await ask()).toMatchObject({ code: 0, stdout: '' }); // it is a pod that needs a network, too
    expect(JSON.parse((await add(a, 'c-a2')).stdout)).toMatchObject({
      code: 11,
      msg: expect.stringMatching(/shop\/a.*ZDS_NO_TUNNEL/) as string,
    });
    expect((await plugin('DEL', {}, env(a, 'c-a2'))).code).toBe(0);
    expect(await plugin('STATUS', {})).toMatchObject({ code: 0 });
  });

  it('an agent that hangs is given up within 10 s; the pod of the mesh does not start, DEL succeeds', async () => {
    agent.kill('SIGSTOP');
    try {
      const [added, deleted, status] = await Promise.all([
        add(b, 'c-b2'),
        plugin('DEL', {}, env(b, 'c-b')),
        plugin('STATUS', { statusPolicy: 'agent-ready' }),
      ]);
      expect(JSON.parse(added.stdout)).toMatchObject({
        code: 100,
        msg: expect.stringMatching(/no answer within.*namespace shop is enrolled/) as string,
      });
      expect(deleted).toMatchObject({ code: 0, stdout: '' });
      expect(JSON.parse(status.stdout)).toMatchObject({ code: 50 });
      // the deadline is what is left of the 10 s when the process had started
      expect(Number(/no answer within (\d+)/.exec(added.stdout)?.[1])).toBeLessThan(9900);
    } finally {
      agent.kill('SIGCONT');
    }
  });

  it('and refuses a configuration beyond 1 MiB, while one just below passes', async () => {
    const huge = await plugin('ADD', { prevResult: result(a), filler: 'x'.repeat(1 << 20) }, env(a, 'c'));
    expect(JSON.parse(huge.stdout)).toMatchObject({ code: 6, msg: expect.stringContaining('larger than 1 MiB') as string });
    const prevResult = { ...result(a), filler: 'x'.repeat((1 << 20) - 2000) };
    const large = await plugin('ADD', { prevResult }, { ...env(a, 'c'), CNI_ARGS: '' });
    expect(JSON.parse(large.stdout)).toEqual(prevResult);
  });

  it('leaves nothing behind', async () => {
    scene.forget(a);
    scene.forget(b);
    await until(
      () => tree(scene.node.bpffs).every((name) => !name.includes('pods/')),
      () => tree(scene.node.bpffs).join(' '),
    );
    expect(await stop(agent, 'SIGTERM')).toBe(0);
  });
});
