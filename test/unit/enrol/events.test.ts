/** What happens to pods, event by event, as Istio's node agent answers it (its informers' table), and what is told of troubles. */
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { CulvertError } from '../../../src/base/errors.ts';
import { MODE_LABEL, REDIRECTION_ANNOTATION } from '../../../src/enrol/policy.ts';
import type { PodRecord } from '../../../src/sources/source.ts';
import { FLAGS, mesh, pod, World } from '../../support/enrol-world.ts';

const enabled = { [REDIRECTION_ANNOTATION]: 'enabled' };
const AT_ONCE = ['drain a', 'annotate u-a off', 'zds del u-a', 'remove a'];

describe('events of pods', () => {
  let world: World;
  beforeEach(() => {
    world = new World();
  });
  afterEach(async () => {
    await world.reconciler.close();
    expect([...world.open]).toEqual([]);
  });
  const a = (over: Partial<PodRecord> = {}): PodRecord => pod('a', '/ns/a', over);
  const enrolled = async (): Promise<void> => {
    world.reconciler.apply(mesh('ambient', a()));
    await world.settled('u-a', 'enrolled');
    world.driver.calls.length = 0;
  };

  it.each(['Succeeded', 'Failed'] as const)('%s: it leaves at once, also when its address is gone from the source', async (phase) => {
    await enrolled();
    world.reconciler.apply(mesh('ambient', a({ phase, ips: [] })));
    await world.settled('u-a', 'out');
    expect(world.driver.calls).toEqual(AT_ONCE);
    expect(world.driver.asked).toBe(0); // no grace
    expect(world.annotations.size).toBe(0);
    expect(world.why('u-a')).toContain(`phase ${phase}`);
    expect(world.open.size).toBe(0);
  });

  it('ended while it was pending: its annotation goes', async () => {
    world.tunnel = 'none';
    world.reconciler.apply(mesh('ambient', a()));
    await world.settled('u-a', 'pending');
    world.reconciler.apply(mesh('ambient', a({ phase: 'Succeeded' })));
    await world.settled('u-a', 'out');
    expect(world.annotations.size).toBe(0);
  });

  it('made anew under the same name: the old one leaves, the new one joins', async () => {
    await enrolled();
    const next = pod('a', '/ns/b', { uid: 'u-a2', ips: ['10.0.0.1'] });
    world.reconciler.apply(mesh('ambient', a({ phase: 'Failed' }), next)); // both are there for a while
    await world.settled('u-a2', 'enrolled');
    world.reconciler.apply(mesh('ambient', next));
    await world.settled('u-a', 'unknown');
    expect([...world.driver.kernel.values()].map(({ uid, cookie }) => [uid, cookie])).toEqual([['u-a2', 102n]]);
    expect(world.reconciler.registry.named('shop', 'a')?.pod.subject.uid).toBe('u-a2');
    expect(world.annotations.get('u-a2')).toBe('enabled');
  });

  it('late: an update of a pod that is gone changes nothing, and it can come back', async () => {
    await enrolled();
    world.reconciler.apply(mesh('ambient'));
    world.reconciler.apply(mesh('ambient', a()));
    world.reconciler.apply(mesh('ambient'));
    await world.settled('u-a', 'unknown');
    expect(world.kernel()).toEqual([]);
    expect(world.set.size).toBe(0);
  });

  it('its namespace is deleted while labelled: the pods leave with it', async () => {
    await enrolled();
    world.reconciler.apply({ ...mesh('ambient', a()), namespaces: new Map() });
    await world.settled('u-a', 'out');
    expect(world.why('u-a')).toContain('namespace shop is unknown');
  });

  it('an excluded namespace: pods that were in leave, also those of an earlier agent', async () => {
    await enrolled();
    world.excluded = new Set(['shop']);
    await world.restart();
    world.reconciler.apply(mesh('ambient', a({ annotations: enabled })));
    await world.settled('u-a', 'out');
    expect(world.driver.calls).toEqual(AT_ONCE);
    expect(world.why('u-a')).toBe('not-enrolled: namespace shop is excluded by configuration');
  });

  it('a sidecar or the pod label "none" takes it out', async () => {
    await enrolled();
    world.reconciler.apply(mesh('ambient', a({ annotations: { 'sidecar.istio.io/status': '' } })));
    await world.settled('u-a', 'out');
    world.reconciler.apply(mesh('ambient', a()));
    await world.settled('u-a', 'enrolled');
    world.reconciler.apply(mesh('ambient', a({ labels: { [MODE_LABEL]: 'none' } })));
    await world.settled('u-a', 'out');
  });

  it('another address: a pod that is in stays as it is', async () => {
    await enrolled();
    world.reconciler.apply(mesh('ambient', a({ ips: ['10.0.0.9', 'fd00::9'] })));
    await Promise.resolve();
    expect(world.driver.calls).toEqual([]);
    expect(world.state('u-a')).toBe('enrolled');
  });

  it('each step fails once: it is in at last, in the order of a first time', async () => {
    world.driver.failures.set('prepare', [new CulvertError('SYSTEM', 'no memory')]);
    world.driver.failures.set('activate', [new CulvertError('SYSTEM', 'no entry')]);
    world.annotateFailures = 1;
    world.reconciler.apply(mesh('ambient', a()));
    await world.settled('u-a', 'enrolled');
    expect(world.annotations.get('u-a')).toBe('enabled');
    expect(world.kernel()).toEqual(['a active']);
    expect(world.driver.calls.slice(-2)).toEqual(['activate a', 'annotate u-a enabled']);
  });
});

describe('the annotation', () => {
  let world: World;
  beforeEach(() => {
    world = new World();
  });
  afterEach(async () => {
    await world.reconciler.close();
  });
  const show = (mode: string | undefined, annotations: Record<string, string>): void =>
    world.reconciler.apply(mesh(mode, pod('a', '/ns/a', { annotations })));

  it('is written again when somebody takes it off a pod that is in', async () => {
    show('ambient', {});
    await world.settled('u-a', 'enrolled');
    world.driver.calls.length = 0;
    show('ambient', {}); // the source does not show it yet
    expect(world.state('u-a')).toBe('enrolled');
    show('ambient', enabled);
    expect(world.driver.calls).toEqual([]);
    show('ambient', {});
    await vi.waitFor(() => {
      expect(world.driver.calls).toEqual(['annotate u-a enabled']);
    });
    await world.settled('u-a', 'enrolled');
    show('ambient', enabled);
    show('ambient', { [REDIRECTION_ANNOTATION]: 'pending' });
    await vi.waitFor(() => {
      expect(world.driver.calls).toEqual(['annotate u-a enabled', 'annotate u-a enabled']);
    });
  });

  it('is taken off a pod that is not in, once, and only if it is one of ours', async () => {
    show(undefined, {});
    show(undefined, enabled);
    await vi.waitFor(() => {
      expect(world.driver.calls).toEqual(['annotate u-a off']);
    });
    await world.settled('u-a', 'out');
    show(undefined, enabled); // as the source still shows it
    await Promise.resolve();
    expect(world.driver.calls).toHaveLength(1);
    show(undefined, {});
    show(undefined, { [REDIRECTION_ANNOTATION]: 'disabled' });
    await Promise.resolve();
    expect(world.driver.calls).toHaveLength(1);
    show(undefined, { [REDIRECTION_ANNOTATION]: 'pending' });
    await vi.waitFor(() => {
      expect(world.driver.calls).toHaveLength(2);
    });
  });

  it('is left to a source that sets it back by itself, and with pauses', async () => {
    world.keepsAnnotations = true;
    await world.restart();
    show('ambient', {});
    await world.settled('u-a', 'enrolled');
    world.driver.calls.length = 0;
    for (const annotations of [enabled, {}, enabled, {}]) {
      show('ambient', annotations);
      await new Promise((resolve) => setImmediate(resolve));
    }
    expect(world.driver.calls).toEqual([]);
    await world.restart(); // what nobody wrote in this life is no source's to set back
    show(undefined, enabled);
    await world.settled('u-a', 'out');
    expect(world.driver.calls).toContain('annotate u-a off');
  });

  it('is noticed missing after a restart, too', async () => {
    world.driver.kernel.set(101n, {
      cookie: 101n,
      uid: 'u-a',
      namespace: 'shop',
      name: 'a',
      netnsPath: '/ns/a',
      state: 'active',
      flags: FLAGS,
    });
    show('ambient', enabled);
    await world.settled('u-a', 'enrolled');
    show('ambient', {});
    await vi.waitFor(() => {
      expect(world.driver.calls.filter((call) => call === 'annotate u-a enabled')).toHaveLength(2);
    });
  });
});

describe('troubles and warnings', () => {
  let world: World;
  beforeEach(() => {
    world = new World();
  });
  afterEach(async () => {
    await world.reconciler.close();
  });

  it('are told once per message, when they last, and again when they come back', async () => {
    world.tunnel = 'none';
    world.reconciler.apply(mesh('ambient', pod('a', '/ns/a')));
    await vi.waitFor(() => {
      expect(world.zds.filter((call) => call === 'add u-a').length).toBeGreaterThan(4);
    });
    expect(world.troubles).toEqual(['a: no tunnel']);
    world.tunnel = 'nacks';
    await vi.waitFor(() => {
      expect(world.troubles).toEqual(['a: no tunnel', 'a: bind failed']);
    });
    world.tunnel = 'acks';
    await world.settled('u-a', 'enrolled');
    world.reconciler.apply(mesh('none', pod('a', '/ns/a')));
    await world.settled('u-a', 'out');
    world.tunnel = 'none';
    world.reconciler.apply(mesh('ambient', pod('a', '/ns/a')));
    await vi.waitFor(() => {
      expect(world.troubles).toEqual(['a: no tunnel', 'a: bind failed', 'a: no tunnel']);
    });
  });

  it('are not made of one failure, unless trying again cannot help', async () => {
    world.driver.failures.set('prepare', [new CulvertError('SYSTEM', 'busy')]);
    world.reconciler.apply(mesh('ambient', pod('a', '/ns/a')));
    await world.settled('u-a', 'enrolled');
    expect(world.troubles).toEqual([]);
    world.driver.failures.set('prepare', [new CulvertError('NETNS_TAKEN', 'belongs to another')]);
    world.reconciler.apply(mesh('ambient', pod('a', '/ns/a'), pod('b', '/ns/b')));
    await world.settled('u-b', 'pending');
    expect(world.troubles).toEqual(['b: belongs to another']);
  });

  it('of the driver that a pod asks for come and go while it runs, and it is moved', async () => {
    const annotated = (annotations: Record<string, string>): void =>
      world.reconciler.apply(mesh('ambient', pod('a', '/ns/a', { annotations })));
    annotated({});
    await world.settled('u-a', 'enrolled');
    const entry = world.reconciler.registry.get('u-a');
    const moves = (): number => world.driver.calls.filter((call) => call === 'reconcile a').length;
    annotated({ 'culvert.dev/redirect-driver': 'tc' });
    expect([...(entry?.warnings.keys() ?? [])]).toEqual(['culvert.dev/redirect-driver']);
    expect(moves()).toBe(0);
    annotated({ 'culvert.dev/redirect-driver': 'iptables' });
    expect(entry?.warnings.size).toBe(0);
    expect(entry?.pod.subject.driver).toBe('iptables');
    await world.reconciler.until(() => (moves() === 1 && entry?.pod.state === 'enrolled' ? true : undefined), 1000);
    expect([moves(), entry?.pod.state]).toEqual([1, 'enrolled']);
    annotated({ 'culvert.dev/redirect-driver': 'iptables' }); // said again
    expect([moves(), world.annotations.get('u-a') ?? 'enabled']).toEqual([1, 'enabled']);
    expect(world.zds.filter((call) => call.startsWith('del'))).toEqual([]);
  });

  it('of annotations are kept with the pod, as they are when it is enrolled', async () => {
    const annotated = (annotations: Record<string, string>): void =>
      world.reconciler.apply(mesh('ambient', pod('a', '/ns/a', { annotations })));
    annotated({ 'ambient.istio.io/dns-capture': 'yes', 'istio.io/reroute-virtual-interfaces': 'eth1' });
    await world.settled('u-a', 'enrolled');
    const warnings = (): string[] => [...(world.reconciler.registry.get('u-a')?.warnings.values() ?? [])];
    expect(warnings()).toEqual([
      'annotation ambient.istio.io/dns-capture="yes" is not a boolean and is ignored',
      'annotation istio.io/reroute-virtual-interfaces="eth1" is not supported by driver ebpf and is ignored: what comes in on these interfaces is not captured; annotation culvert.dev/redirect-driver=nftables or iptables gives the pod a driver that does',
    ]);
    annotated({ 'ambient.istio.io/dns-capture': 'false' }); // nothing changes for a pod that is in
    expect(warnings()).toHaveLength(2);
    expect(world.driver.kernel.get(101n)?.flags.dns).toBe(true);
    world.reconciler.apply(mesh('none', pod('a', '/ns/a')));
    await world.settled('u-a', 'out');
    annotated({ 'ambient.istio.io/dns-capture': 'false' });
    await world.settled('u-a', 'enrolled');
    expect(warnings()).toEqual([]);
    expect(world.driver.kernel.get(101n)?.flags.dns).toBe(false);
  });
});
