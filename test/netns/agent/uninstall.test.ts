/** `culvert uninstall --all` on a node whose agent is gone for good: works from the pins, and leaves nothing. */
import { execFile, execFileSync } from 'node:child_process';
import { existsSync, readFileSync, unlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { native } from '../../../src/sys/native.ts';
import { type Endpoint, settingsOf, type TestPod, tree } from '../../support/netns.ts';
import { AgentScene, stop } from './scene.ts';

const ENTRY = new URL('../../../src/main.ts', import.meta.url).pathname;

describe('uninstall --all', () => {
  let scene: AgentScene;
  let a: TestPod;
  let b: TestPod;
  let app: Endpoint;
  let agent: Awaited<ReturnType<AgentScene['startAgent']>>;
  let before: string;

  const path = (...parts: string[]): string => join(scene.dir, ...parts);
  const uninstall = (): Promise<{ code: number; out: string; err: string }> =>
    new Promise((resolve) => {
      const args = [
        ...['uninstall', '--all', '-o', 'json', '--run-dir', path('run'), '--state-dir', path('state'), '--zds-socket', path('zds.sock')],
        ...[
          '--pin-dir',
          join(scene.node.bpffs, 'n1'),
          '--node-netns',
          scene.node.nodeNetns,
          '--cni-bin-dir',
          path('bin'),
          '--cni-conf-dir',
          path('net.d'),
        ],
      ];
      execFile(process.execPath, [ENTRY, ...args], (error, out, err) => {
        resolve({ code: error === null ? 0 : Number(error.code), out, err });
      });
    });
  const connection = async (): Promise<unknown> =>
    ((await app.call('connect', { host: b.ip4, port: 8080 })) as { greeting?: { by: string } }).greeting?.by;
  const pins = (): string[] => tree(scene.node.bpffs).filter((name) => !name.endsWith('.debug')); // those are the kernel's own

  beforeAll(async () => {
    scene = await AgentScene.create('uninst');
    a = await scene.pod('a', 51);
    b = await scene.pod('b', 52);
    before = settingsOf(b.netnsName);
    app = await scene.node.process('app', a.netns);
    const server = await scene.node.process('app', b.netns);
    await server.call('listen', { name: 'app-b', host: '::', port: 8080 });
    scene.label('ambient');
    agent = await scene.startAgent();
    scene.startTunnel();
    await scene.pods({ a: 'enrolled active', b: 'enrolled active' });
  });
  afterAll(async () => {
    await scene.close();
    expect(existsSync(scene.dir)).toBe(false);
  });

  it('is refused while the agent runs, and changes nothing', async () => {
    const answer = await uninstall();
    expect(answer).toMatchObject({ code: 1, out: '' });
    expect(answer.err).toContain('another agent runs on it');
    await scene.pods({ a: 'enrolled active', b: 'enrolled active' });
    expect(await connection()).toBe('tunnel:15001');
  });

  it("is refused for another instance's pins", async () => {
    await stop(agent, 'SIGKILL');
    const id = readFileSync(path('state/instance'), 'utf8');
    writeFileSync(path('state/instance'), `${'1'.repeat(16)}\n`);
    const answer = await uninstall();
    expect(answer).toMatchObject({ code: 1, out: '' });
    expect(answer.err).toContain('this is instance 1111111111111111');
    writeFileSync(path('state/instance'), id);
    expect(await connection()).toBe('tunnel:15001');
  });

  it('takes everything off, also from a netns whose path is gone; a second time there is nothing', async () => {
    native.unmount(a.netns); // its process keeps it
    unlinkSync(a.netns);
    const answer = await uninstall();
    expect(answer.err).toBe('');
    const said = JSON.parse(answer.out) as { pods: string[] };
    expect({ ...said, pods: said.pods.toSorted() }).toEqual({ removedFrom: [], pods: ['shop/a', 'shop/b'], pins: true });
    expect(await connection()).toBe('app-b');
    expect(settingsOf(b.netnsName)).toBe(before);
    const rules = execFileSync('nsenter', [`--net=/proc/${app.pid}/ns/net`, 'ip', 'rule'], { encoding: 'utf8' });
    expect(rules).not.toContain('0x111');
    expect(pins()).toEqual([]);
    for (const gone of ['run', 'state', 'zds.sock']) expect(existsSync(path(gone)), gone).toBe(false);
    expect(JSON.parse((await uninstall()).out)).toEqual({ removedFrom: [], pods: [], pins: false });
  });
});
