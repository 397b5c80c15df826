/** A lab on a control plane: what happens while it is away, and certificates that live for seconds. */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { configDump } from '../../../src/cli/tunnel-admin.ts';
import { controlRecord, startControl } from '../../../src/lab/control.ts';
import { nodesOf, leftovers, takeDown } from '../../../src/lab/down.ts';
import { echoPorts } from '../../../src/lab/echo.ts';
import type { Client } from '../../../src/lab/demo/client.ts';
import { Scene } from '../../../src/lab/demo/scene.ts';
import { labelInLab } from '../../../src/lab/label.ts';
import { LabPaths } from '../../../src/lab/paths.ts';
import { isGone, signal } from '../../../src/lab/processes.ts';
import { podStatuses, settle } from '../../../src/lab/settled.ts';
import { defaultTopology, parseTopology } from '../../../src/lab/topology.ts';
import { until } from '../../../src/lab/until.ts';
import { bringUp } from '../../../src/lab/up.ts';

/** 60000 and 300 are the figures of the documentation; a run of the suite is content with less. */
const LIFETIME_MS = Number(process.env['CULVERT_TEST_CERTIFICATE_MS'] ?? 10_000);
const SECONDS = Number(process.env['CULVERT_TEST_CERTIFICATE_SECONDS'] ?? 12);

const lab = new LabPaths(`cvt-lab-control-${String(process.pid)}`);
const inShop = (pod: { namespace: string }): boolean => pod.namespace === 'shop';
let scene: Scene;

beforeAll(async () => {
  process.env['CULVERT_CERTIFICATE_LIFETIME_MS'] = String(LIFETIME_MS);
  try {
    await bringUp(lab, defaultTopology, parseTopology(defaultTopology, 'default topology'), { source: 'xds' });
  } finally {
    delete process.env['CULVERT_CERTIFICATE_LIFETIME_MS'];
  }
  scene = await Scene.set(lab);
});

afterAll(async () => {
  scene.close();
  await takeDown(lab);
  expect(leftovers(lab)).toEqual([]);
});

/** New connections, one after another, until told to stop. */
function load(from: Client, to: string): { stop(): Promise<{ served: number; failures: string[] }> } {
  let on = true;
  let served = 0;
  const failures: string[] = [];
  const running = (async (): Promise<void> => {
    while (on) {
      const answer = await from.call({ op: 'http', host: scene.ip(to), port: echoPorts.http, path: '/' });
      if (answer.ok) served += 1;
      else failures.push(`${from.place.pod.name} to ${to}: ${answer.error}`);
    }
  })();
  return {
    async stop() {
      on = false;
      await running;
      return { served, failures };
    },
  };
}

async function killControl(): Promise<void> {
  const record = controlRecord(lab);
  expect(signal(record, 'SIGKILL')).toBe(true);
  await until('control to end', 30_000, () => (isGone(record) ? true : undefined));
}

async function serials(): Promise<Map<string, string>> {
  const dumps = await Promise.all(nodesOf(lab).map((node) => configDump({ node, runDir: lab.node(node).runDir })));
  return new Map(dumps.flatMap(({ certificates }) => certificates.map((each) => [`${each.node} ${each.identity}`, each.serial ?? ''])));
}

test(
  'certificates are renewed under traffic, no connection fails',
  async () => {
    const open = 'over many certificates';
    await scene.client.must({ op: 'open', id: open, host: scene.ip('shop/web-2'), port: echoPorts.bytes });
    const loads = [load(scene.client, 'shop/web-2'), load(scene.client, 'shop/web-1')];
    const seen = new Map<string, Set<string>>();
    const deadline = performance.now() + SECONDS * 1000;
    // Until every identity in use was renewed twice, and as long as was asked for.
    await until('two renewals of every certificate', (SECONDS + 4 * (LIFETIME_MS / 1000) + 30) * 1000, async () => {
      for (const [key, serial] of await serials()) seen.set(key, (seen.get(key) ?? new Set()).add(serial));
      return performance.now() > deadline && seen.size >= 3 && [...seen.values()].every((each) => each.size >= 3) ? true : undefined;
    });
    const done = await Promise.all(loads.map((each) => each.stop()));
    await scene.client.must({ op: 'send', id: open, text: 'the connection of the beginning' });
    await scene.client.must({ op: 'close', id: open });
    expect(done.flatMap(({ failures }) => failures)).toEqual([]);
    const served = done.reduce((sum, each) => sum + each.served, 0);
    expect(served).toBeGreaterThan(0);
    const renewals = [...seen.values()].reduce((sum, each) => sum + each.size - 1, 0);
    console.log(`${served} connections over ${renewals} renewals of ${seen.size} certificates of ${LIFETIME_MS} ms, none failed`);
  },
  (SECONDS + 4 * (LIFETIME_MS / 1000) + 60) * 1000,
);

test('control killed: traffic goes on, a change of label waits for it and is then carried out', async () => {
  const before = (await podStatuses(lab)).filter(inShop).map(({ uid }) => uid);
  const loads = [load(scene.client, 'shop/web-2'), load(scene.stranger, 'shop/web-2')];
  await killControl();
  for (let i = 0; i < 20; i += 1) await scene.http(scene.client, scene.ip('shop/web-2'), echoPorts.http);
  await startControl(lab);
  await settle(lab, inShop);
  labelInLab(lab, 'namespace', 'shop', [{ key: 'istio.io/dataplane-mode', value: undefined }]);
  await settle(lab, () => false);
  labelInLab(lab, 'namespace', 'shop', [{ key: 'istio.io/dataplane-mode', value: 'ambient' }]);
  const pods = await settle(lab, inShop);
  const done = await Promise.all(loads.map((each) => each.stop()));
  expect(done.flatMap(({ failures }) => failures)).toEqual([]);
  expect(pods.filter(inShop).map(({ uid }) => uid)).toEqual(before);
});

test('a tunnel that asks on demand: pods, services, both families, the unlabelled', async () => {
  const restarted = async (onDemand: boolean): Promise<void> => {
    if (onDemand) process.env['CULVERT_ON_DEMAND'] = 'true';
    try {
      await scene.kill('node1', 'ztunnel');
      await scene.start('node1', 'ztunnel');
    } finally {
      delete process.env['CULVERT_ON_DEMAND'];
    }
    await until('the pods of node1 to be served', 30_000, async () =>
      (await scene.client.call({ op: 'http', host: scene.ip('shop/web-1'), port: echoPorts.http, path: '/' })).ok ? true : undefined,
    );
  };
  const known = async (): Promise<string[]> => {
    const { workloads } = await configDump({ node: 'node1', runDir: lab.node('node1').runDir });
    return (workloads as { name: string }[]).map(({ name }) => name).sort();
  };
  await restarted(true);
  expect(await known()).toEqual(['client', 'web-1']); // its own node's, given unasked
  for (const family of [4, 6] as const) {
    await scene.http(scene.client, scene.ip('shop/web-2', family));
    await scene.http(scene.client, scene.vip('shop/web', family), 80);
    await scene.http(scene.client, scene.ip('legacy/old', family));
  }
  expect(await known()).toEqual(['client', 'old', 'web-1', 'web-2']);
  await restarted(false);
  await settle(lab, inShop);
});
