/** Pods that are found, labelled and unlabelled again and again, and asked for by the plugin meanwhile: no descriptor of the agent stays behind. */
import { randomBytes } from 'node:crypto';
import { existsSync, readdirSync } from 'node:fs';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { tree, type TestPod } from '../../support/netns.ts';
import { AgentScene, stop } from '../agent/scene.ts';

const TOGGLES = Number(process.env['CULVERT_TEST_TOGGLES'] ?? 20);
let scene: AgentScene;
let pods: TestPod[];

beforeAll(async () => {
  scene = await AgentScene.create('enrtog', { unnamed: true });
  pods = [await scene.pod('a', 41), await scene.pod('b', 42)];
  for (const pod of pods) {
    const path = ['kubepods', `pod${scene.uidOf(pod)}`, randomBytes(32).toString('hex')];
    for (let depth = 1; depth <= path.length; depth++) scene.node.cgroupPath(path.slice(0, depth).join('/'));
    await scene.node.process(path.join('/'), pod.netns);
  }
});
afterAll(async () => {
  expect(tree(scene.node.bpffs).filter((name) => name.includes('pods/'))).toEqual([]);
  await scene.close();
  expect(existsSync(scene.dir)).toBe(false);
});

it(`${TOGGLES} times in and out`, async () => {
  const agent = await scene.startAgent(['--grace-cap-ms', '0', '--leave-deadline-ms', '0', '--log-level', 'info']);
  const tunnel = scene.startTunnel();
  const open = (): number => readdirSync(`/proc/${agent.pid ?? 0}/fd`).length;
  const [a] = pods;
  if (a === undefined) throw new Error('no pod');
  const toggle = async (n: number): Promise<void> => {
    scene.label('ambient');
    const added = n % 3 === 0 ? scene.cni('add', a) : undefined;
    await scene.pods({ a: 'enrolled active', b: 'enrolled active' });
    await added;
    scene.label(undefined);
    await scene.pods({ a: 'not-enrolled none', b: 'not-enrolled none' });
  };
  for (let n = 0; n < 5; n++) await toggle(n); // what is opened once is open
  const before = open();
  for (let n = 0; n < TOGGLES; n++) await toggle(n);
  expect(open()).toBeLessThanOrEqual(before + 1); // a file that is being written
  await stop(tunnel, 'SIGTERM');
  await stop(agent, 'SIGTERM');
}, 600_000);
