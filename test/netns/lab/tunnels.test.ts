/** A lab whose tunnel is another program than the built-in one: kept in its state, killed and started again, a second one beside it. */
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { AgentStatus } from '../../../src/agent/api.ts';
import { daemonRecord, startDaemon } from '../../../src/lab/daemons.ts';
import { Scene } from '../../../src/lab/demo/scene.ts';
import { leftovers, takeDown } from '../../../src/lab/down.ts';
import { logFiles } from '../../../src/lab/logs.ts';
import { LabPaths } from '../../../src/lab/paths.ts';
import { isGone, signal } from '../../../src/lab/processes.ts';
import { selfCommand } from '../../../src/lab/self.ts';
import { statusOf } from '../../../src/lab/status.ts';
import { defaultTopology, parseTopology } from '../../../src/lab/topology.ts';
import { writeTunnel, type LabTunnel } from '../../../src/lab/tunnels.ts';
import { until } from '../../../src/lab/until.ts';
import { bringUp } from '../../../src/lab/up.ts';

const lab = new LabPaths(`cvt-lab-tunnels-${String(process.pid)}`);
/** Our own tunnel as a stranger: socket and node are appended, its admin socket is where nobody looks for it. */
const tunnel: LabTunnel = {
  argv: [...selfCommand(), 'ztunnel', '--run-dir', join(lab.dir, 'stranger'), '--mesh-file', lab.mesh, '--ca-dir', lab.ca],
};
let scene: Scene;

beforeAll(async () => {
  await bringUp(lab, defaultTopology, parseTopology(defaultTopology, 'default topology'), { tunnel });
  scene = await Scene.set(lab);
});

afterAll(async () => {
  scene.close();
  await takeDown(lab);
  expect(leftovers(lab)).toEqual([]);
});

const tunnelPids = async (): Promise<number[]> => {
  const { document } = await scene.culvert<AgentStatus[]>(['status', '--node', 'node1']);
  expect(document[0]?.tunnel.kind).toBe('external');
  return (document[0]?.tunnel.connections ?? []).map(({ pid }) => pid);
};
const works = async (): Promise<void> => {
  expect((await scene.http(scene.client, scene.ip('shop/web-2'))).seen.hostname).toBe('web-2');
};

test('it serves, and what the lab tells names it', async () => {
  await works();
  expect(await tunnelPids()).toEqual([daemonRecord(lab, 'node1', 'ztunnel')?.pid]);
  expect(statusOf(lab)).toMatchObject({
    tunnel: tunnel.argv[0],
    control: null,
    nodes: [{ ztunnel: { alive: true } }, { ztunnel: { alive: true } }],
  });
  const { document } = await scene.culvert<{ node: string; state: string }[]>(['certs']); // over localhost of its netns, as Istio's
  expect(document.map(({ node, state }) => `${node} ${state}`)).toEqual(['node1 Available', 'node1 Available', 'node2 Available']);
});

test('a second one takes over, in a netns, a cgroup and a log of its own', async () => {
  await startDaemon(lab, 'node1', 'ztunnel-2');
  const [first, second] = (['ztunnel', 'ztunnel-2'] as const).map((slot) => daemonRecord(lab, 'node1', slot));
  expect(await tunnelPids()).toEqual([first?.pid, second?.pid]);
  expect(signal(first, 'SIGTERM')).toBe(true);
  await until('the first to end', 30_000, () => (isGone(first) ? true : undefined));
  await works();
  expect(statusOf(lab).nodes[0]).toMatchObject({ ztunnel: { alive: false }, ztunnel2: { alive: true } });
  expect(logFiles(lab, 'ztunnel', undefined).map(({ label }) => label)).toEqual(['node1 ztunnel', 'node1 ztunnel-2', 'node2 ztunnel']);
  await startDaemon(lab, 'node1', 'ztunnel'); // the first place is free again
  await scene.kill('node1', 'ztunnel-2');
  await works();
});

test('one that ends at once is reported with the end of its log', async () => {
  writeTunnel(lab, { argv: ['sh', '-c', 'echo no mood to work >&2; exit 3'] });
  await expect(startDaemon(lab, 'node2', 'ztunnel-2')).rejects.toThrow(/start ztunnel-2 of node2: it ended; its log ends: no mood to work/);
});
