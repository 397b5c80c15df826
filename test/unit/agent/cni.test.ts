import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { addPod, delPod } from '../../../src/agent/cni.ts';
import type { CniAddRequest } from '../../../src/agent/api.ts';
import { CulvertError } from '../../../src/base/errors.ts';
import { mesh, pod, World } from '../../support/enrol-world.ts';

const ask = (over: Partial<CniAddRequest> = {}): CniAddRequest => ({
  containerId: 'c',
  netns: '/ns/a',
  ifname: 'eth0',
  podNamespace: 'shop',
  podName: 'a',
  podUid: 'u-a',
  ips: ['10.0.0.1'],
  ...over,
});

describe('plugin requests', () => {
  let world: World;
  beforeEach(() => {
    world = new World();
  });
  afterEach(async () => {
    await world.reconciler.close();
  });

  it('enrol a pod whose addresses only the plugin knows yet; twice is once', async () => {
    world.reconciler.apply(mesh('ambient', pod('a', '/ns/a', { ips: [] })));
    expect(world.state('u-a')).toBe('out');
    const answers = await Promise.all([addPod(world.reconciler, ask(), 1000), addPod(world.reconciler, ask(), 1000)]);
    expect(answers).toEqual([1, 2].map(() => ({ enrolled: true, reason: 'namespace label istio.io/dataplane-mode=ambient' })));
    expect(world.driver.calls.filter((call) => call === 'activate a')).toHaveLength(1);
  });

  it('wait for a pod that the source does not know yet, and not for ever', async () => {
    world.reconciler.apply(mesh('ambient'));
    const waiting = addPod(world.reconciler, ask(), 1000);
    world.reconciler.apply(mesh('ambient', pod('a', undefined, { ips: [] })));
    expect((await waiting).enrolled).toBe(true);
    await expect(addPod(world.reconciler, ask({ podName: 'b' }), 20)).rejects.toMatchObject({ code: 'POD_UNKNOWN' });
    // the pod before it had the same name
    await expect(addPod(world.reconciler, ask({ podUid: 'u-new' }), 20)).rejects.toThrow('with uid u-new');
  });

  it('also before the source has said anything', async () => {
    const waiting = addPod(world.reconciler, ask(), 1000);
    world.reconciler.apply(mesh(undefined, pod('a', '/ns/a')));
    expect(await waiting).toEqual({ enrolled: false, reason: 'neither pod nor namespace has label istio.io/dataplane-mode=ambient' });
  });

  it('know a static pod by its other uid', async () => {
    world.reconciler.apply(mesh('ambient', pod('a', '/ns/a', { annotations: { 'kubernetes.io/config.hash': 'hash' } })));
    expect((await addPod(world.reconciler, ask({ podUid: 'hash' }), 1000)).enrolled).toBe(true);
  });

  it('fail with what the first attempt failed with', async () => {
    world.tunnel = 'none';
    world.reconciler.apply(mesh('ambient', pod('a', '/ns/a', { ips: [] })));
    await expect(addPod(world.reconciler, ask(), 1000)).rejects.toMatchObject({ code: 'ZDS_NO_TUNNEL' });
    await expect(addPod(world.reconciler, ask(), 1000)).rejects.toMatchObject({ code: 'ZDS_NO_TUNNEL' });
    world.tunnel = 'acks';
    world.driver.failures.set('prepare', [new CulvertError('KERNEL_UNSUPPORTED', 'no')]);
    await expect(addPod(world.reconciler, ask(), 1000)).rejects.toMatchObject({ code: 'KERNEL_UNSUPPORTED', retryable: false });
    expect((await addPod(world.reconciler, ask(), 1000)).enrolled).toBe(true);
  });

  it('fail for a netns that is not there, and when the time is over', async () => {
    world.reconciler.apply(mesh('ambient', pod('a', undefined, { ips: [] })));
    await expect(addPod(world.reconciler, ask({ netns: '/ns/none' }), 1000)).rejects.toMatchObject({ code: 'NETNS_UNKNOWN' });
    world.tunnel = 'hangs';
    await expect(addPod(world.reconciler, ask(), 30)).rejects.toThrow('still joining after 0.03 s');
    world.release?.();
  });

  it('take a removed sandbox out, once, and ignore one from before', async () => {
    world.reconciler.apply(mesh('ambient', pod('a', '/ns/a')));
    await world.settled('u-a', 'enrolled');
    await delPod(world.reconciler, ask({ netns: '/ns/old' }));
    expect(world.state('u-a')).toBe('enrolled');
    await delPod(world.reconciler, ask());
    expect(world.state('u-a')).toBe('out');
    await delPod(world.reconciler, ask());
    await delPod(world.reconciler, ask({ podName: 'nobody' }));
    // the runtime tries again with another sandbox
    expect((await addPod(world.reconciler, ask({ netns: '/ns/b' }), 1000)).enrolled).toBe(true);
    expect([...world.driver.kernel.keys()]).toEqual([102n]);
  });
});
