/** All that the demo proves with the built-in tunnel holds with Istio's. */
import { afterAll, beforeAll, test } from 'vitest';
import { proofs } from '../../src/lab/demo/main.ts';
import { defaultTopology } from '../../src/lab/topology.ts';
import { buildWorld, type World } from './world.ts';

let world: World;

beforeAll(async () => {
  world = await buildWorld('proofs', {}, defaultTopology);
});

afterAll(async () => {
  await world.close();
});

test.each(proofs)('$title', async ({ prove }) => {
  await prove(world.scene);
});
