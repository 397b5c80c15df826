import { afterEach, describe, expect, it, vi } from 'vitest';
import { CulvertError } from '../../../src/base/errors.ts';
import { MODE_LABEL, REDIRECTION_ANNOTATION } from '../../../src/enrol/policy.ts';
import type { DatapathState } from '../../../src/redirect/driver.ts';
import { FLAGS, mesh, pod, World } from '../../support/enrol-world.ts';

const IN = ['prepare a', 'zds add a', 'activate a', 'annotate u-a enabled'];
const OUT = ['drain a', 'annotate u-a off', 'zds del u-a', 'remove a'];

describe('reconciler', () => {
  let world: World;
  afterEach(async () => {
    await world.reconciler.close();
  });

  it('enrols by label and takes out again, in order; twice is once', async () => {
    world = new World();
    const labelled = mesh('ambient', pod('a', '/ns/a'));
    world.reconciler.apply(labelled);
    world.reconciler.apply(labelled);
    await world.settled('u-a', 'enrolled');
    world.reconciler.apply(labelled);
    world.reconciler.tick();
    expect(world.driver.calls).toEqual(IN);
    expect(world.why('u-a')).toBe(`enrolled: namespace label ${MODE_LABEL}=ambient`);
    expect(world.zds[0]).toBe('open');

    world.driver.calls.length = 0;
    world.reconciler.apply(mesh(undefined, pod('a', '/ns/a')));
    world.reconciler.apply(mesh(undefined, pod('a', '/ns/a')));
    await world.settled('u-a', 'out');
    expect(world.driver.calls).toEqual(OUT);
    expect([...world.open]).toEqual([]);
    expect(world.annotations.size).toBe(0);
  });

  it('reconciles a pod once the driver that it asked for can have it', async () => {
    world = new World();
    world.reconciler.apply(mesh('ambient', pod('a', '/ns/a')));
    await world.settled('u-a', 'enrolled');
    world.driver.calls.length = 0;
    world.reconciler.tick();
    expect(world.driver.calls).toEqual([]);
    let overdue = true;
    Object.assign(world.driver, { overdue: () => overdue });
    vi.spyOn(world.driver, 'reconcile').mockImplementationOnce((target) => {
      overdue = false;
      return world.driver.reconcile(target);
    });
    world.reconciler.tick();
    await world.settled('u-a', 'enrolled');
    world.reconciler.tick();
    expect(world.driver.calls.filter((call) => call.startsWith('reconcile'))).toEqual(['reconcile a']);
  });

  it("leaves other nodes' pods and pods that cannot be alone", () => {
    world = new World();
    world.reconciler.apply(
      mesh(
        'ambient',
        pod('far', '/ns/b', { node: 'node2' }),
        pod('host', '/ns/c', { hostNetwork: true }),
        pod('new', undefined),
        pod('bare', '/ns/a', { ips: [] }),
      ),
    );
    expect(world.driver.calls).toEqual([]);
    expect(world.state('u-far')).toBe('unknown');
    expect(world.why('u-host')).toContain('not-enrolled: host network');
    expect(world.why('u-new')).toContain(
      'pending: namespace label istio.io/dataplane-mode=ambient; its network namespace is not known yet',
    );
    expect(world.why('u-bare')).toContain('it has no address yet');
  });

  it('keeps a pod plain and pending while no tunnel acknowledges, and enrols it when one does', async () => {
    world = new World();
    world.tunnel = 'none';
    world.reconciler.apply(mesh('ambient', pod('a', '/ns/a')));
    await world.settled('u-a', 'pending');
    expect(world.annotations.get('u-a')).toBe('pending');
    expect(world.kernel()).toEqual([]);
    expect(world.set.size).toBe(0);
    expect(world.why('u-a')).toContain('pending: ');
    expect(world.why('u-a')).toContain('no tunnel');
    world.tunnel = 'acks';
    world.reconciler.tunnelReady();
    await world.settled('u-a', 'enrolled');
    expect(world.annotations.get('u-a')).toBe('enabled');
  });

  it('does not activate what the tunnel acknowledges without listening, unless its listeners can be adopted', async () => {
    world = new World();
    vi.spyOn(world.driver, 'listeners').mockReturnValueOnce([]).mockReturnValueOnce([]);
    world.reconciler.apply(mesh('ambient', pod('a', '/ns/a')));
    await world.settled('u-a', 'pending');
    expect(world.driver.calls).toContain('adoptListeners a 42');
    expect(world.driver.calls).not.toContain('activate a');
    await world.settled('u-a', 'enrolled');
  });

  it('retries what failed on the way out until it is out', async () => {
    world = new World();
    world.reconciler.apply(mesh('ambient', pod('a', '/ns/a')));
    await world.settled('u-a', 'enrolled');
    world.annotateFailures = 2;
    world.driver.failures.set('remove', [new CulvertError('SYSTEM', 'busy'), new CulvertError('NETNS_GONE', 'gone')]);
    world.reconciler.apply(mesh('none', pod('a', '/ns/a')));
    await world.settled('u-a', 'out');
    expect(world.kernel()).toEqual([]);
    expect(world.annotations.size).toBe(0);
  });

  it('is captured although the annotation waits, and announces later', async () => {
    world = new World();
    world.annotateFailures = 1;
    world.reconciler.apply(mesh('ambient', pod('a', '/ns/a')));
    await vi.waitFor(
      () => {
        expect(world.why('u-a')).toContain('enrolled: namespace label istio.io/dataplane-mode=ambient; disk full');
      },
      { interval: 1 },
    );
    await world.settled('u-a', 'enrolled');
    expect(world.why('u-a')).not.toContain('disk full');
    expect(world.driver.calls.filter((call) => call === 'zds add a')).toHaveLength(1);
  });

  it('takes a deleted pod out without grace, and forgets it', async () => {
    world = new World();
    world.reconciler.apply(mesh('ambient', pod('a', '/ns/a')));
    await world.settled('u-a', 'enrolled');
    world.driver.calls.length = 0;
    world.driver.open = 1; // not waited for either
    world.reconciler.apply(mesh('ambient'));
    await world.settled('u-a', 'unknown');
    expect(world.driver.calls).toEqual(['drain a', 'annotate u-a off', 'zds del u-a', 'remove a at once']);
    expect([...world.open]).toEqual([]);
  });

  it('waits in the grace while peers still come, and not longer than its cap', async () => {
    world = new World();
    world.reconciler.apply(mesh('ambient', pod('a', '/ns/a')));
    await world.settled('u-a', 'enrolled');
    const busy = setInterval(() => world.driver.hbone.set(101n, (world.driver.hbone.get(101n) ?? 0) + 1), 5);
    world.reconciler.apply(mesh(undefined, pod('a', '/ns/a')));
    await world.settled('u-a', 'out');
    clearInterval(busy);
    expect(world.driver.hbone.get(101n)).toBeGreaterThan(2);
  });

  it('lets open connections end before the tunnel lets go, up to a deadline', async () => {
    for (const ends of [true, false]) {
      world = new World();
      world.driver.open = 2;
      world.reconciler.apply(mesh('ambient', pod('a', '/ns/a')));
      await world.settled('u-a', 'enrolled');
      world.reconciler.apply(mesh(undefined, pod('a', '/ns/a')));
      await vi.waitFor(() => {
        expect(world.driver.asked).toBeGreaterThan(1);
      });
      expect(world.driver.calls).not.toContain('zds del u-a');
      if (ends) world.driver.open = 0;
      await world.settled('u-a', 'out');
      expect(world.driver.calls).toContain('zds del u-a');
      await world.reconciler.close();
    }
  });

  it('turns round in the grace when the label comes back, through a new ack and without removing anything', async () => {
    world = new World();
    world.reconciler.apply(mesh('ambient', pod('a', '/ns/a')));
    await world.settled('u-a', 'enrolled');
    world.driver.calls.length = 0;
    world.reconciler.apply(mesh(undefined, pod('a', '/ns/a')));
    await vi.waitFor(
      () => {
        expect(world.driver.calls).toContain('annotate u-a off');
      },
      { interval: 1 },
    );
    world.reconciler.apply(mesh('ambient', pod('a', '/ns/a')));
    await world.settled('u-a', 'enrolled');
    expect(world.driver.calls).toEqual(['drain a', 'annotate u-a off', 'zds add a', 'activate a', 'annotate u-a enabled']);
  });

  it('does not activate a pod whose label went off while it joined', async () => {
    world = new World();
    world.tunnel = 'hangs';
    world.reconciler.apply(mesh('ambient', pod('a', '/ns/a')));
    await vi.waitFor(
      () => {
        expect(world.release).toBeDefined();
      },
      { interval: 1 },
    );
    world.reconciler.apply(mesh(undefined, pod('a', '/ns/a')));
    world.release?.();
    await world.settled('u-a', 'out');
    expect(world.driver.calls).toEqual(['prepare a', 'zds add a', 'annotate u-a off', 'zds del u-a', 'remove a']);
  });

  it('moves to another sandbox: the old netns out, the new one in', async () => {
    world = new World();
    world.reconciler.apply(mesh('ambient', pod('a', '/ns/a')));
    await world.settled('u-a', 'enrolled');
    const entry = world.reconciler.registry.get('u-a');
    if (entry === undefined) throw new Error('no entry');
    world.reconciler.sandbox(entry, { netns: '/ns/b', ips: ['10.0.0.2'] });
    await vi.waitFor(
      () => {
        expect(world.driver.kernel.get(102n)?.state).toBe('active');
      },
      { interval: 2 },
    );
    await world.settled('u-a', 'enrolled');
    expect([...world.driver.kernel.keys()]).toEqual([102n]);
    expect([...world.open]).toEqual([102]);
    expect(world.set.get('u-a')?.netnsFd).toBe(102);
    // the source agrees later, then the sandbox is removed: not used again although its path is still there
    world.reconciler.apply(mesh('ambient', pod('a', '/ns/b')));
    expect(world.state('u-a')).toBe('enrolled');
    world.reconciler.sandbox(entry, undefined);
    await world.settled('u-a', 'out');
    world.reconciler.apply(mesh('ambient', pod('a', '/ns/b')));
    world.reconciler.tick();
    expect(world.why('u-a')).toContain('its sandbox was removed');
    world.netns.set('/ns/b', 104);
    world.reconciler.tick();
    await world.settled('u-a', 'enrolled');
    expect([...world.driver.kernel.keys()]).toEqual([104n]);
  });

  it('notices a netns that is gone', async () => {
    world = new World();
    world.reconciler.apply(mesh('ambient', pod('a', '/ns/a')));
    await world.settled('u-a', 'enrolled');
    world.netns.delete('/ns/a');
    world.reconciler.tick();
    await world.settled('u-a', 'out');
    expect(world.kernel()).toEqual([]);
    expect(world.annotations.size).toBe(0);
    expect(world.why('u-a')).toContain('pending');
  });

  it('works on many pods at once', async () => {
    world = new World();
    const pods = Array.from({ length: 60 }, (_, i) => {
      world.netns.set(`/ns/${i}`, 1000 + i);
      return pod(`p${i}`, `/ns/${i}`);
    });
    world.reconciler.apply(mesh('ambient', ...pods));
    await vi.waitFor(() => {
      expect(world.driver.snapshot().filter((e) => e.state === 'active')).toHaveLength(60);
    });
    world.reconciler.apply(mesh('none', ...pods));
    await vi.waitFor(() => {
      expect(world.driver.kernel.size).toBe(0);
    });
    expect(world.open.size).toBe(0);
  });
});

describe('reconciler after a restart', () => {
  let world: World;
  afterEach(async () => {
    await world.reconciler.close();
  });

  it('interrupts nothing', async () => {
    world = new World();
    world.reconciler.apply(mesh('ambient', pod('a', '/ns/a')));
    await world.settled('u-a', 'enrolled');
    await world.restart();
    expect(world.kernel()).toEqual(['a active']);
    world.reconciler.apply(mesh('ambient', pod('a', '/ns/a', { annotations: { [REDIRECTION_ANNOTATION]: 'enabled' } })));
    expect(world.zds.slice(0, 2)).toEqual(['provide u-a', 'open']);
    await world.settled('u-a', 'enrolled');
    expect(world.driver.calls).toEqual(['reconcile a', 'annotate u-a enabled']);
  });

  it.each<[DatapathState, string | undefined, string, string[]]>([
    ['prepared', 'ambient', 'enrolled', IN],
    ['prepared', undefined, 'out', ['annotate u-a off', 'zds del u-a', 'remove a']],
    ['active', undefined, 'out', OUT],
    ['draining', 'ambient', 'enrolled', ['reconcile a', 'zds add a', 'activate a', 'annotate u-a enabled']],
    ['draining', undefined, 'out', OUT.slice(1)],
  ])('goes on from %s with label %s', async (state, mode, end, calls) => {
    world = new World();
    world.driver.kernel.set(101n, { cookie: 101n, uid: 'u-a', namespace: 'shop', name: 'a', netnsPath: '/ns/a', state, flags: FLAGS });
    world.reconciler.apply(mesh(mode, pod('a', '/ns/a')));
    await world.settled('u-a', end);
    expect(world.driver.calls).toEqual(calls);
  });

  it('keeps what has no netns yet, and serves it in full when it is found', async () => {
    world = new World();
    world.driver.kernel.set(101n, { cookie: 101n, uid: 'u-a', namespace: 'shop', name: 'a', netnsPath: '', state: 'active', flags: FLAGS });
    world.reconciler.apply(mesh('ambient', pod('a', undefined)));
    expect(world.zds).toEqual(['provide u-a keep', 'open']);
    await vi.waitFor(() => {
      expect(world.state('u-a')).toBe('adopting');
    });
    expect(world.kernel()).toEqual(['a active']);
    world.reconciler.apply(mesh('ambient', pod('a', '/ns/a')));
    await world.settled('u-a', 'enrolled');
    expect(world.zds.at(-1)).toBe('provide u-a');
    expect(world.driver.calls.filter((call) => call.startsWith('drain') || call.startsWith('remove'))).toEqual([]);
  });

  it('keeps what is announced but was lost by the kernel, and enrols it anew', async () => {
    world = new World();
    world.reconciler.apply(mesh('ambient', pod('a', '/ns/a', { annotations: { [REDIRECTION_ANNOTATION]: 'enabled' } })));
    expect(world.zds.slice(0, 2)).toEqual(['provide u-a keep', 'open']);
    await world.settled('u-a', 'enrolled');
    expect(world.driver.calls).toEqual(IN);
  });

  it('keeps what is announced in the set until the tunnel that may serve it is back, and undoes nothing meanwhile', async () => {
    world = new World();
    world.tunnel = 'none';
    world.annotations.set('u-a', 'enabled');
    world.reconciler.apply(mesh('ambient', pod('a', '/ns/a', { annotations: { [REDIRECTION_ANNOTATION]: 'enabled' } })));
    await vi.waitFor(() => {
      expect(world.zds.filter((call) => call === 'add u-a').length).toBeGreaterThan(2); // tried again and again
    });
    expect(world.zds.filter((call) => call.startsWith('del'))).toEqual([]);
    expect([...world.set.keys()]).toEqual(['u-a']);
    expect(world.annotations.get('u-a')).toBe('enabled');
    expect(world.why('u-a')).toContain('pending: ');
    expect(world.why('u-a')).toContain('no tunnel');
    world.tunnel = 'acks';
    world.reconciler.tunnelReady();
    await world.settled('u-a', 'enrolled');
    expect(world.driver.calls.filter((call) => /^(remove|drain|zds del)/.test(call))).toEqual([]);
  });

  it('takes off an annotation that outlived everything', async () => {
    world = new World();
    world.annotations.set('u-a', 'enabled');
    world.reconciler.apply(mesh(undefined, pod('a', '/ns/a', { annotations: { [REDIRECTION_ANNOTATION]: 'enabled' } })));
    await vi.waitFor(() => {
      expect(world.annotations.size).toBe(0);
    });
    await world.settled('u-a', 'out');
  });

  it('removes what belongs to pods and sandboxes that are gone, and nothing put there by hand', async () => {
    world = new World();
    const kernel = (cookie: bigint, uid: string, netnsPath: string): void => {
      world.driver.kernel.set(cookie, { cookie, uid, namespace: 'shop', name: uid, netnsPath, state: 'active', flags: FLAGS });
    };
    kernel(101n, 'u-dead', '/ns/a');
    kernel(999n, 'u-b', '/ns/b'); // /ns/b is another netns by now
    kernel(103n, 'redirect:103', '');
    world.driver.failures.set('remove', [new CulvertError('SYSTEM', 'busy')]);
    world.reconciler.apply(mesh('ambient', pod('b', '/ns/b')));
    await world.settled('u-b', 'enrolled');
    world.reconciler.tick();
    await vi.waitFor(() => {
      expect(world.kernel().sort()).toEqual(['b active', 'redirect:103 active']);
    });
    expect(world.driver.calls).toContain('remove u-b (netns gone) at once');
    expect([...world.open]).toEqual([102]);
  });
});
