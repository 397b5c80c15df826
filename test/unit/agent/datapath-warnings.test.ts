import { pino } from 'pino';
import { expect, it } from 'vitest';
import { DatapathWarnings } from '../../../src/agent/datapath-warnings.ts';
import type { PodEvent } from '../../../src/sources/source.ts';
import { mesh, pod, World } from '../../support/enrol-world.ts';

const log = pino({ level: 'silent' });
const MARK = 'listener on port 8080 has mark 0x10: inbound cannot reach it';

function warnings(world: World): { warnings: DatapathWarnings; events: [string, PodEvent][] } {
  const events: [string, PodEvent][] = [];
  const { driver, reconciler } = world;
  const event = (of: { uid: string }, what: PodEvent): void => void events.push([of.uid, what]);
  return { warnings: new DatapathWarnings({ driver, registry: reconciler.registry, event, log }), events };
}

it('keeps what the datapath says of a pod, and tells it once', async () => {
  const world = new World();
  const { warnings: kept, events } = warnings(world);
  world.reconciler.apply(mesh('ambient', pod('a', '/ns/a')));
  await world.settled('u-a', 'enrolled');
  const entry = world.reconciler.registry.get('u-a')!;
  expect(kept.of(entry)).toEqual([]);

  world.driver.warn(101n, MARK);
  world.driver.warn(101n, MARK, 'another');
  expect(kept.of(entry)).toEqual([MARK, 'another']);
  expect(events).toEqual([
    ['u-a', { type: 'Warning', reason: 'DatapathLimited', message: MARK }],
    ['u-a', { type: 'Warning', reason: 'DatapathLimited', message: 'another' }],
  ]);

  world.driver.warn(101n);
  expect(kept.of(entry)).toEqual([]);
  world.driver.warn(101n, MARK);
  expect(events).toHaveLength(3);

  world.reconciler.apply(mesh(undefined, pod('a', '/ns/a')));
  await world.settled('u-a', 'out');
  kept.tick();
  expect(kept.of(entry)).toEqual([]);
  kept.close();
  await world.reconciler.close();
});

it('takes up what was said before the pod was known by its cookie', async () => {
  const world = new World();
  const { warnings: kept, events } = warnings(world);
  world.driver.warn(101n, MARK);
  world.reconciler.apply(mesh('ambient', pod('a', '/ns/a')));
  await world.settled('u-a', 'enrolled');
  kept.tick();
  expect(kept.of(world.reconciler.registry.get('u-a')!)).toEqual([MARK]);
  expect(events).toHaveLength(1);
  kept.tick();
  expect(events).toHaveLength(1);
  kept.close();
  await world.reconciler.close();
});
