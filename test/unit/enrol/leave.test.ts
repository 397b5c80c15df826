import { afterEach, describe, expect, it } from 'vitest';
import { CulvertError } from '../../../src/base/errors.ts';
import { mesh, pod, World } from '../../support/enrol-world.ts';

describe('an agent that leaves its node for good', () => {
  let world: World;
  afterEach(async () => {
    await world.reconciler.close();
  });

  it('takes every pod out in order, and lets none in any more', async () => {
    world = new World();
    const labelled = mesh('ambient', pod('a', '/ns/a'), pod('b', '/ns/b'));
    world.reconciler.apply(labelled);
    await world.settled('u-a', 'enrolled');
    await world.settled('u-b', 'enrolled');
    world.driver.calls.length = 0;
    expect(await world.reconciler.leave(5000, 6000)).toEqual([]);
    expect(world.driver.calls.filter((call) => / (u-)?a( |$)/.test(call))).toEqual(['drain a', 'annotate u-a off', 'zds del u-a', 'remove a']); // prettier-ignore
    expect(world.kernel()).toEqual([]);
    expect(world.annotations.size).toBe(0);
    world.reconciler.apply(mesh('ambient', pod('a', '/ns/a'), pod('b', '/ns/b'), pod('c', '/ns/c')));
    expect(world.why('u-c')).toBe('not-enrolled: the agent leaves this node for good');
    expect(await world.reconciler.leave(5000, 6000)).toEqual([]);
  });

  it('cuts short what lasts longer than the grace, and names who is still in at the deadline', async () => {
    world = new World();
    world.driver.open = 3; // connections that do not end by themselves for 400 ms
    world.reconciler.apply(mesh('ambient', pod('a', '/ns/a')));
    await world.settled('u-a', 'enrolled');
    world.driver.calls.length = 0;
    expect(await world.reconciler.leave(50, 5000)).toEqual([]);
    expect(world.driver.calls).toContain('remove a at once');

    await world.restart();
    world.reconciler.apply(mesh('ambient', pod('b', '/ns/b')));
    await world.settled('u-b', 'enrolled');
    world.driver.failures.set('remove', Array<CulvertError>(100).fill(new CulvertError('SYSTEM', 'busy')));
    const left = await world.reconciler.leave(0, 100);
    expect(left.map((entry) => entry.pod.subject.name)).toEqual(['b']);
  });
});
