/** A ztunnel that does not do as it should: it answers late, or its listeners cannot answer from foreign addresses. */
import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { daemonRecord } from '../../src/lab/daemons.ts';
import type { Scene } from '../../src/lab/demo/scene.ts';
import { echoPorts } from '../../src/lab/echo.ts';
import { labelInLab } from '../../src/lab/label.ts';
import { signal } from '../../src/lab/processes.ts';
import { podStatuses, settle } from '../../src/lab/settled.ts';
import { until } from '../../src/lab/until.ts';
import { buildWorld, ended, inShop, PodProgram, ready, type World } from './world.ts';

let world: World;
let scene: Scene;
let client: PodProgram;

beforeAll(async () => {
  world = await buildWorld('late');
  scene = world.scene;
  client = await PodProgram.inPod(world.lab, 'shop/client');
});

afterAll(async () => {
  client.close();
  await world.close();
});

const agentLog = (node: string): string => readFileSync(world.lab.node(node).agentLog, 'utf8');
const logged = (node: string, text: string): Promise<true> =>
  until(`the agent of ${node} to log "${text}"`, 15_000, () => (agentLog(node).includes(text) ? true : undefined));
const tunnel = (node: string): ReturnType<typeof daemonRecord> => daemonRecord(world.lab, node, 'ztunnel');

test('stopped, its ack comes late: the connection is closed, nobody joins, others go on; awake again it serves all there are', async () => {
  expect(signal(tunnel('node2'), 'SIGSTOP')).toBe(true);
  try {
    labelInLab(world.lab, 'namespace', 'legacy', [{ key: 'istio.io/dataplane-mode', value: 'ambient' }]);
    await logged('node2', 'wait for ZDS ack of add: nothing within 5000 ms');
    const joining = (await podStatuses(world.lab)).filter((pod) => pod.namespace === 'legacy');
    expect(joining.map(({ state }) => state)).toEqual(['pending', 'pending']);
    expect(joining.every(({ datapath }) => datapath !== 'active')).toBe(true);
    // the pods that wait are plain, and node1's tunnel passes through to them
    const { seen } = await scene.http(scene.client, scene.ip('legacy/old'));
    expect(seen.peer).toBe(scene.ip('shop/client'));
  } finally {
    signal(tunnel('node2'), 'SIGCONT');
  }
  await settle(world.lab, () => true);
  const mine = agentLog('node2');
  expect(mine).not.toContain('nobody asked for'); // no ack was taken for another's
  for (const pod of ['legacy/old', 'shop/web-2']) {
    const { wire } = await scene.captured(() => scene.http(scene.client, scene.ip(pod), echoPorts.http, 'plain-to-see'));
    expect(wire.includes('plain-to-see'), pod).toBe(false);
  }
  labelInLab(world.lab, 'namespace', 'legacy', [{ key: 'istio.io/dataplane-mode', value: undefined }]);
  await settle(world.lab, inShop, { timeoutMs: 30_000 });
});

test('a second one with ENABLE_ORIG_SRC=false: the first goes on with what goes out; alone it refuses at once; it is told', async () => {
  const knock = { op: 'try', port: echoPorts.bytes, say: 'hello' } as const;
  process.env['ENABLE_ORIG_SRC'] = 'false';
  try {
    await scene.start('node1', 'ztunnel-2');
  } finally {
    delete process.env['ENABLE_ORIG_SRC'];
  }
  await ready(world.lab, 'node1', 'ztunnel-2');
  const warnings = async (): Promise<string[]> =>
    (await podStatuses(world.lab)).filter(({ name }) => name === 'client').flatMap((pod) => pod.warnings ?? []);
  await until('the warning at the pod', 10_000, async () =>
    (await warnings()).some((text) => /port 15001 is not transparent.*ENABLE_ORIG_SRC/.test(text)) ? true : undefined,
  );
  for (const to of ['shop/web-2', 'legacy/old'])
    for (const family of [4, 6] as const)
      expect(await client.ask({ ...knock, host: scene.ip(to, family) })).toEqual({ outcome: 'answered', detail: 'hello' });

  await scene.kill('node1', 'ztunnel');
  for (const family of [4, 6] as const)
    expect(await client.ask({ ...knock, host: scene.ip('shop/web-2', family) })).toEqual({ outcome: 'refused', detail: 'ECONNREFUSED' });
  await scene.kill('node1', 'ztunnel-2');
  await ended(world.lab, 'node1', 'ztunnel-2');
  await scene.start('node1', 'ztunnel');
  await ready(world.lab, 'node1');
  await settle(world.lab, inShop);
  expect(await client.ask({ ...knock, host: scene.ip('shop/web-2') })).toEqual({ outcome: 'answered', detail: 'hello' });
  await until('the warning to go', 90_000, async () => ((await warnings()).length === 0 ? true : undefined));
});
