/** Labels that go and come back under load: no connection fails, whoever makes it. */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { echoPorts } from '../../../src/lab/echo.ts';
import type { Client } from '../../../src/lab/demo/client.ts';
import { Scene } from '../../../src/lab/demo/scene.ts';
import { leftovers, takeDown } from '../../../src/lab/down.ts';
import { labelInLab } from '../../../src/lab/label.ts';
import { LabPaths } from '../../../src/lab/paths.ts';
import { settle } from '../../../src/lab/settled.ts';
import { defaultTopology, parseTopology } from '../../../src/lab/topology.ts';
import { bringUp } from '../../../src/lab/up.ts';

const lab = new LabPaths(`cvt-lab-toggle-${String(process.pid)}`);
let scene: Scene;

beforeAll(async () => {
  await bringUp(lab, defaultTopology, parseTopology(defaultTopology, 'default topology'));
  scene = await Scene.set(lab);
});

afterAll(async () => {
  scene.close();
  await takeDown(lab);
  expect(leftovers(lab)).toEqual([]);
});

test('out of the mesh and back in, again and again', async () => {
  let on = true;
  let served = 0;
  const failures: string[] = [];
  const load = async (from: Client, to: string): Promise<void> => {
    while (on) {
      const answer = await from.call({ op: 'http', host: scene.ip(to), port: echoPorts.http, path: '/' });
      if (answer.ok) served += 1;
      else failures.push(`${from.place.pod.name} to ${to}: ${answer.error}`);
    }
  };
  const running = [load(scene.client, 'shop/web-2'), load(scene.client, 'shop/web-1'), load(scene.stranger, 'shop/web-2')];
  for (const value of [undefined, 'ambient', undefined, 'ambient']) {
    labelInLab(lab, 'namespace', 'shop', [{ key: 'istio.io/dataplane-mode', value }]);
    await settle(lab, (pod) => value !== undefined && pod.namespace === 'shop');
  }
  on = false;
  await Promise.all(running);
  expect(failures).toEqual([]);
  expect(served).toBeGreaterThan(0);
  console.log(`${served} connections over 4 changes of the label, none failed`);
});
