/** What `make demo` proves, one test per proof, on one lab. */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { hostDevices, nothingLeft } from '../../../src/lab/demo/inspect.ts';
import { proofs } from '../../../src/lab/demo/main.ts';
import { Scene } from '../../../src/lab/demo/scene.ts';
import { takeDown } from '../../../src/lab/down.ts';
import { LabPaths } from '../../../src/lab/paths.ts';
import { defaultTopology, parseTopology } from '../../../src/lab/topology.ts';
import { bringUp } from '../../../src/lab/up.ts';

const lab = new LabPaths(`cvt-lab-demo-${String(process.pid)}`);
const devices = hostDevices();
let scene: Scene;

beforeAll(async () => {
  await bringUp(lab, defaultTopology, parseTopology(defaultTopology, 'default topology'));
  scene = await Scene.set(lab);
});

afterAll(async () => {
  await takeDown(lab);
});

test.each(proofs)('$title', async ({ prove }) => {
  expect(await prove(scene)).not.toBe('');
});

test('lab down, nothing left behind', async () => {
  expect(await nothingLeft(scene, devices)).not.toBe('');
});
