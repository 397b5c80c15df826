/** Pods whose netns nobody named: looked for, and followed when the path under which it was found goes. */
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { CulvertError } from '../../../src/base/errors.ts';
import { REDIRECTION_ANNOTATION } from '../../../src/enrol/policy.ts';
import type { Entry } from '../../../src/enrol/registry.ts';
import { FLAGS, mesh, pod, World } from '../../support/enrol-world.ts';

describe('search', () => {
  let world: World;
  const entryOf = (uid: string): Entry => {
    const entry = world.reconciler.registry.get(uid);
    if (entry === undefined) throw new Error(`no entry of ${uid}`);
    return entry;
  };
  const until = (check: () => void): Promise<void> =>
    vi.waitFor(
      () => {
        world.reconciler.tick();
        check();
      },
      { interval: 2 },
    );
  beforeEach(() => {
    world = new World();
    world.processes.set('u-a', '/ns/a');
  });
  afterEach(async () => {
    await world.reconciler.close();
    expect([...world.open]).toEqual([]);
  });

  it('enrols a running pod at its label, without waiting for a tick, in the usual order', async () => {
    world.reconciler.apply(mesh(undefined, pod('a', undefined)));
    await Promise.resolve();
    expect(world.searches).toEqual([]);
    world.reconciler.apply(mesh('ambient', pod('a', undefined)));
    await world.settled('u-a', 'enrolled');
    expect(world.searches).toEqual([['u-a']]);
    expect(world.driver.calls).toEqual(['prepare a', 'zds add a', 'activate a', 'annotate u-a enabled']);
    world.reconciler.apply(mesh(undefined, pod('a', undefined)));
    await world.settled('u-a', 'out');
  });

  it('serves all pods of one moment together', async () => {
    const pods = Array.from({ length: 60 }, (_, i) => {
      world.netns.set(`/ns/${i}`, 1000 + i);
      world.processes.set(`u-p${i}`, `/ns/${i}`);
      return pod(`p${i}`, undefined);
    });
    world.reconciler.apply(mesh('ambient', ...pods));
    await vi.waitFor(() => {
      expect(world.driver.snapshot().filter((e) => e.state === 'active')).toHaveLength(60);
    });
    expect(world.searches).toHaveLength(1);
  });

  it('leaves out pods without address, and those that somebody names', async () => {
    world.reconciler.apply(mesh('ambient', pod('a', undefined, { ips: [] }), pod('b', '/ns/b'), pod('c', '/ns/none')));
    await world.settled('u-b', 'enrolled');
    world.reconciler.tick();
    expect(world.searches).toEqual([]);
    expect(world.why('u-a')).toContain('it has no address yet');
    world.reconciler.apply(mesh('ambient', pod('a', undefined), pod('b', '/ns/b'), pod('c', '/ns/none')));
    await world.settled('u-a', 'enrolled');
    expect(world.searches).toEqual([['u-a']]);
  });

  it('asks again with pauses, at once when something new is known of the pod, and says in the end that it is in vain', async () => {
    world.processes.clear();
    world.reconciler.apply(mesh('ambient', pod('a', undefined)));
    await until(() => {
      expect(world.troubles).toHaveLength(1);
    });
    expect(world.troubles[0]).toContain('a: find network namespace of pod shop/a: no process of it is in one that has an address');
    expect(world.searches.length).toBe(3);
    world.reconciler.tick();
    world.reconciler.apply(mesh('ambient', pod('a', undefined)));
    await Promise.resolve();
    expect(world.searches.length).toBe(3); // it pauses
    world.processes.set('u-a', '/ns/a');
    world.reconciler.apply(mesh('ambient', pod('a', undefined, { ips: ['10.0.0.2'] })));
    await world.settled('u-a', 'enrolled');
    expect(world.searches.length).toBe(4);
  });

  it('reports that processes cannot be looked at, and goes on when they can', async () => {
    world.discoveryFault = new CulvertError('SYSTEM', 'look for network namespaces of pods: EACCES');
    world.reconciler.apply(mesh('ambient', pod('a', undefined)));
    await vi.waitFor(() => {
      expect(world.why('u-a')).toContain('look for network namespaces of pods');
    });
    expect(world.troubles).toHaveLength(1);
    world.discoveryFault = undefined;
    await until(() => {
      expect(world.state('u-a')).toBe('enrolled');
    });
  });

  it('does not take in what was found too late', async () => {
    world.reconciler.apply(mesh('ambient', pod('a', undefined)));
    await Promise.resolve();
    world.reconciler.apply(mesh(undefined, pod('a', undefined)));
    await vi.waitFor(() => {
      expect(world.searches).toHaveLength(1);
      expect(world.open.size).toBe(0);
    });
    expect(world.driver.calls).toEqual([]);
    expect(world.state('u-a')).toBe('out');
  });

  it('closes what is found after its own end', async () => {
    world.reconciler.apply(mesh('ambient', pod('a', undefined)));
    await Promise.resolve(); // asked, not answered
    await world.reconciler.close();
    await vi.waitFor(() => {
      expect(world.searches).toHaveLength(1);
      expect(world.open.size).toBe(0);
    });
    expect(world.driver.calls).toEqual([]);
  });

  it("prefers the plugin's word that comes meanwhile", async () => {
    world.reconciler.apply(mesh('ambient', pod('a', undefined)));
    world.reconciler.sandbox(entryOf('u-a'), { netns: '/ns/b', ips: ['10.0.0.1'] });
    await world.settled('u-a', 'enrolled');
    expect([...world.driver.kernel.keys()]).toEqual([102n]);
    expect([...world.open]).toEqual([102]);
  });

  it('leaves a pod alone whose process ends while its netns lives on', async () => {
    world.netns.set('/proc/7/ns/net', 101);
    world.processes.set('u-a', '/proc/7/ns/net');
    world.reconciler.apply(mesh('ambient', pod('a', undefined)));
    await world.settled('u-a', 'enrolled');
    world.driver.calls.length = 0;
    const { fd } = entryOf('u-a').pod.subject.netns!;
    world.netns.delete('/proc/7/ns/net');
    world.netns.set('/proc/9/ns/net', 101);
    world.processes.set('u-a', '/proc/9/ns/net');
    world.reconciler.tick();
    await vi.waitFor(() => {
      expect(entryOf('u-a').pod.subject.netns?.path).toBe('/proc/9/ns/net');
    });
    expect(entryOf('u-a').pod.subject.netns?.fd).toBe(fd); // tunnels that connect later get this one
    expect(world.state('u-a')).toBe('enrolled');
    expect(world.driver.calls).toEqual([]);
    expect([...world.open]).toEqual([101]);
  });

  it('keeps it while nobody can look, and takes it out when nothing of it is left', async () => {
    world.netns.set('/proc/7/ns/net', 101);
    world.processes.set('u-a', '/proc/7/ns/net');
    world.reconciler.apply(mesh('ambient', pod('a', undefined)));
    await world.settled('u-a', 'enrolled');
    world.driver.calls.length = 0;
    world.netns.delete('/proc/7/ns/net');
    world.discoveryFault = new CulvertError('SYSTEM', 'list processes: EMFILE');
    world.reconciler.tick();
    await vi.waitFor(() => {
      expect(world.troubles).toHaveLength(1);
    });
    expect(world.state('u-a')).toBe('enrolled');
    world.discoveryFault = undefined;
    world.processes.clear();
    await until(() => {
      expect(world.state('u-a')).toBe('out');
    });
    expect(world.driver.calls).toEqual(['drain a', 'annotate u-a off', 'zds del u-a', 'remove a']);
    expect([...world.open]).toEqual([]);
    world.processes.set('u-a', '/ns/b'); // the sandbox was made anew
    await until(() => {
      expect(world.state('u-a')).toBe('enrolled');
    });
    expect([...world.driver.kernel.keys()]).toEqual([102n]);
  });

  it('moves to the netns in which the pod is found now', async () => {
    world.reconciler.apply(mesh('ambient', pod('a', undefined)));
    await world.settled('u-a', 'enrolled');
    world.netns.delete('/ns/a');
    world.processes.set('u-a', '/ns/b');
    await until(() => {
      expect([...world.driver.kernel.keys()]).toEqual([102n]);
      expect(world.state('u-a')).toBe('enrolled');
    });
    expect([...world.open]).toEqual([102]);
  });

  it('does not find again what the plugin took away, though a process is in it still', async () => {
    world.reconciler.apply(mesh('ambient', pod('a', undefined)));
    await world.settled('u-a', 'enrolled');
    world.reconciler.sandbox(entryOf('u-a'), undefined);
    await until(() => {
      expect(world.state('u-a')).toBe('out');
      expect(world.searches.length).toBeGreaterThan(1);
    });
    expect(world.kernel()).toEqual([]);
    expect(world.why('u-a')).toMatch(/its sandbox was removed|not known yet/);
    world.reconciler.sandbox(entryOf('u-a'), { netns: '/ns/b', ips: ['10.0.0.2'] });
    await world.settled('u-a', 'enrolled');
  });

  it('takes the path that the plugin names for the netns that was found', async () => {
    world.netns.set('/proc/7/ns/net', 101);
    world.processes.set('u-a', '/proc/7/ns/net');
    world.reconciler.apply(mesh('ambient', pod('a', undefined)));
    await world.settled('u-a', 'enrolled');
    world.driver.calls.length = 0;
    world.reconciler.sandbox(entryOf('u-a'), { netns: '/ns/a', ips: ['10.0.0.1'] });
    world.netns.delete('/proc/7/ns/net');
    world.reconciler.tick();
    await Promise.resolve();
    expect(world.state('u-a')).toBe('enrolled');
    expect(world.driver.calls).toEqual([]);
    expect(world.searches).toHaveLength(1);
    expect([...world.open]).toEqual([101]);
  });

  it('finds after a restart what the kernel holds under the path of a process that ended', async () => {
    world.driver.kernel.set(101n, {
      cookie: 101n,
      uid: 'u-a',
      namespace: 'shop',
      name: 'a',
      netnsPath: '/proc/7/ns/net', // another process has this number now
      state: 'active',
      flags: FLAGS,
    });
    world.netns.set('/proc/7/ns/net', 103);
    world.reconciler.apply(mesh('ambient', pod('a', undefined, { annotations: { [REDIRECTION_ANNOTATION]: 'enabled' } })));
    expect(world.zds).toEqual(['provide u-a keep', 'open']);
    await world.settled('u-a', 'enrolled');
    expect(world.zds.at(-1)).toBe('provide u-a');
    expect(world.driver.calls.filter((call) => /^(drain|remove|prepare|activate)/.test(call))).toEqual([]);
  });

  it('takes out after a restart what is in another netns by now', async () => {
    world.driver.kernel.set(105n, {
      cookie: 105n,
      uid: 'u-a',
      namespace: 'shop',
      name: 'a',
      netnsPath: '/proc/7/ns/net',
      state: 'active',
      flags: FLAGS,
    });
    world.reconciler.apply(mesh('ambient', pod('a', undefined)));
    await until(() => {
      expect(world.driver.snapshot().map(({ cookie, state }) => [cookie, state])).toEqual([[101n, 'active']]);
    });
    expect(world.driver.calls).toContain('remove a (netns gone)');
  });
});
