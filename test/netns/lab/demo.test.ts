/** What `make demo` proves, one test per proof, on one lab; the same proofs with tunnels on a mesh file and on a control plane. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { hostDevices, nothingLeft } from '../../../src/lab/demo/inspect.ts';
import { proofs } from '../../../src/lab/demo/main.ts';
import { Scene } from '../../../src/lab/demo/scene.ts';
import { takeDown } from '../../../src/lab/down.ts';
import { LabPaths } from '../../../src/lab/paths.ts';
import { defaultTopology, parseTopology } from '../../../src/lab/topology.ts';
import { bringUp } from '../../../src/lab/up.ts';

const devices = hostDevices();

describe.each(['file', 'xds'] as const)('tunnels on %s', (source) => {
  const lab = new LabPaths(`cvt-lab-demo-${source}-${String(process.pid)}`);
  let scene: Scene;

  beforeAll(async () => {
    await bringUp(lab, defaultTopology, parseTopology(defaultTopology, 'default topology'), { source });
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
});
