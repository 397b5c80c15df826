import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { Attachments } from '../../../src/agent/attachments.ts';
import { addPod, delPod, type Sandboxes } from '../../../src/agent/cni.ts';
import { cniHandlers, type CniOptions } from '../../../src/agent/cni-handlers.ts';
import type { CniAddRequest } from '../../../src/agent/api.ts';
import { CulvertError } from '../../../src/base/errors.ts';
import { mesh, pod, World } from '../../support/enrol-world.ts';

const log = pino({ level: 'silent' });
const ask = (over: Partial<CniAddRequest> = {}): CniAddRequest => ({
  network: 'k8s',
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
  let directory: string;
  let sandboxes: Sandboxes;
  beforeEach(() => {
    world = new World();
    directory = mkdtempSync(join(tmpdir(), 'cvt-cni-'));
    sandboxes = { reconciler: world.reconciler, attachments: new Attachments(join(directory, 'att'), log), openNetns: world.openNetns };
  });
  afterEach(async () => {
    await world.reconciler.close();
    rmSync(directory, { recursive: true });
  });
  const handlers = (over: Partial<CniOptions> = {}): ReturnType<typeof cniHandlers> =>
    cniHandlers({
      ...sandboxes,
      driver: world.driver,
      readiness: () => ({ ready: true, reason: '' }),
      addressesIn: () => [],
      occupied: () => new Set(),
      log,
      ...over,
    });
  /** as containerd repeats it: nothing but the container id and CNI_ARGS */
  const late = (containerId: string): CniAddRequest => ask({ containerId, netns: '', ips: [] });

  it('enrol a pod whose addresses only the plugin knows yet; twice is once', async () => {
    world.reconciler.apply(mesh('ambient', pod('a', '/ns/a', { ips: [] })));
    expect(world.state('u-a')).toBe('out');
    const answers = await Promise.all([addPod(world.reconciler, ask(), 1000), addPod(world.reconciler, ask(), 1000)]);
    expect(answers).toEqual([1, 2].map(() => ({ enrolled: true, reason: 'namespace label istio.io/dataplane-mode=ambient' })));
    expect(world.driver.calls.filter((call) => call === 'activate a')).toHaveLength(1);
  });

  it('look into the netns for addresses that nobody told', async () => {
    world.reconciler.apply(mesh('ambient', pod('a', undefined, { ips: [] })));
    await expect(handlers().add(ask({ ips: [] }))).rejects.toMatchObject({
      code: 'CNI_INPUT',
      message: expect.stringMatching(/no address.*prevResult.*put culvert-cni behind/) as string,
    });
    const addressesIn = (netns: string): string[] => (netns === '/ns/a' ? ['10.0.0.1'] : []);
    expect((await handlers({ addressesIn }).add(ask({ ips: [] }))).enrolled).toBe(true);
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
    await delPod(sandboxes, ask({ netns: '/ns/old' }));
    expect(world.state('u-a')).toBe('enrolled');
    await delPod(sandboxes, ask());
    expect(world.state('u-a')).toBe('out');
    await delPod(sandboxes, ask());
    await delPod(sandboxes, ask({ podName: 'nobody' }));
    // the runtime tries again with another sandbox
    expect((await addPod(world.reconciler, ask({ netns: '/ns/b' }), 1000)).enrolled).toBe(true);
    expect([...world.driver.kernel.keys()]).toEqual([102n]);
  });

  it('end a sandbox by its container id alone, also for the next agent; and three times is once', async () => {
    world.reconciler.apply(mesh('ambient', pod('a', '/ns/a')));
    await handlers().add(ask({ containerId: 'c1' }));
    sandboxes.attachments = new Attachments(join(directory, 'att'), log); // its netns is none of this machine: pruned
    expect(sandboxes.attachments.of('c1', '')).toEqual([]);

    world.netns.set(directory, 101); // a path that is there
    await handlers().add(ask({ containerId: 'c1', netns: directory }));
    sandboxes.attachments = new Attachments(join(directory, 'att'), log);
    await handlers().del({ ...late('c1'), podNamespace: '', podName: '', podUid: '' });
    expect(world.state('u-a')).toBe('out');
    await handlers().del(late('c1'));
    await handlers().del(late('c1'));
    expect(readdirSync(join(directory, 'att'))).toEqual([]);
  });

  it('leave the next sandbox of a pod alone when a DEL of the one before comes late', async () => {
    world.reconciler.apply(mesh('ambient', pod('a', '/ns/a')));
    await handlers().add(ask({ containerId: 'c1' }));
    await handlers().del(ask({ containerId: 'c1' }));
    expect(world.state('u-a')).toBe('out');
    world.netns.delete('/ns/a'); // the runtime removes it behind the DEL
    await handlers().add(ask({ containerId: 'c2', netns: '/ns/b' }));
    await handlers().del(late('c1'));
    await handlers().del(late('never-seen'));
    expect(world.state('u-a')).toBe('enrolled');
    // its netns stands at the path of the one before
    await handlers().add(ask({ containerId: 'c3', netns: '/ns/b' }));
    await handlers().del(ask({ containerId: 'c2', netns: '/ns/b' }));
    expect(world.state('u-a')).toBe('enrolled');
    await handlers().del(late('c3'));
    expect(world.state('u-a')).toBe('out');
  });

  it('find a pod that the source led to by another path', async () => {
    world.reconciler.apply(mesh('ambient', pod('a', '/ns/a')));
    await world.settled('u-a', 'enrolled');
    world.netns.set('/run/cni-a', 101);
    await handlers().del(ask({ containerId: 'c1', netns: '/run/cni-a', podName: '', podNamespace: '', podUid: '' }));
    expect(world.state('u-a')).toBe('out');
  });

  it('tell the sandbox of a pod that nobody wants in the mesh now, for the day that somebody does', async () => {
    world.reconciler.apply(mesh('ambient', pod('a', undefined)));
    await handlers().add(ask({ containerId: 'c1' }));
    world.reconciler.apply(mesh(undefined, pod('a', undefined)));
    await world.settled('u-a', 'out');
    await handlers().del(ask({ containerId: 'c1' }));
    world.netns.delete('/ns/a');
    expect((await handlers().add(ask({ containerId: 'c2', netns: '/ns/b' }))).enrolled).toBe(false);
    world.reconciler.apply(mesh('ambient', pod('a', undefined)));
    await world.settled('u-a', 'enrolled');
    expect([...world.driver.kernel.keys()]).toEqual([102n]);
  });

  it('leave no word behind of a sandbox that went while nobody wanted its pod: the next is looked for', async () => {
    world.reconciler.apply(mesh('ambient', pod('a', undefined)));
    await handlers().add(ask({ containerId: 'c1' }));
    world.reconciler.apply(mesh(undefined, pod('a', undefined)));
    await world.settled('u-a', 'out');
    await handlers().del(late('c1'));
    world.netns.delete('/ns/a');
    world.processes.set('u-a', '/ns/b');
    world.reconciler.apply(mesh('ambient', pod('a', undefined)));
    await world.settled('u-a', 'enrolled');
  });

  it('do not hinder the search for a pod whose sandbox went before the source knew the pod', async () => {
    world.reconciler.apply(mesh('ambient'));
    const added = addPod(world.reconciler, ask(), 1000);
    await handlers().del(ask());
    world.netns.delete('/ns/a');
    world.reconciler.apply(mesh('ambient', pod('a', undefined)));
    await expect(added).rejects.toMatchObject({ code: 'NETNS_UNKNOWN' });
    world.processes.set('u-a', '/ns/b');
    await vi.waitFor(
      () => {
        world.reconciler.tick();
        expect(world.state('u-a')).toBe('enrolled');
      },
      { interval: 2 },
    );
  });

  it('fail at once when the pod is deleted meanwhile', async () => {
    world.tunnel = 'hangs';
    world.reconciler.apply(mesh('ambient', pod('a', undefined)));
    const added = addPod(world.reconciler, ask(), 60_000);
    await vi.waitFor(() => {
      expect(world.release).toBeDefined();
    });
    world.reconciler.apply(mesh('ambient'));
    world.release?.();
    await expect(added).rejects.toMatchObject({ code: 'POD_UNKNOWN' });
  });

  it('remember the failed and the unlabelled ones too', async () => {
    world.tunnel = 'none';
    world.reconciler.apply(mesh('ambient', pod('a', '/ns/a', { ips: [] })));
    await expect(handlers().add(ask({ containerId: 'c1' }))).rejects.toMatchObject({ code: 'ZDS_NO_TUNNEL' });
    expect(sandboxes.attachments.of('c1', 'eth0')).toMatchObject([{ network: 'k8s', netns: '/ns/a', podUid: 'u-a' }]);
    world.reconciler.apply(mesh(undefined, pod('a', '/ns/a')));
    await handlers().add(ask({ containerId: 'c2', netns: '/ns/b' }));
    expect(sandboxes.attachments.inNetwork('k8s')).toHaveLength(2);
  });

  it('check what is enrolled, and pass what is not', async () => {
    world.reconciler.apply(mesh('ambient', pod('a', '/ns/a'), pod('out', '/ns/b', { labels: { 'istio.io/dataplane-mode': 'none' } })));
    await world.settled('u-a', 'enrolled');
    const check = (request: CniAddRequest): Promise<unknown> => handlers().check(request);
    expect(await check(ask())).toMatchObject({ enrolled: true, faults: [] });
    expect(world.driver.calls).toContain('faults a 10.0.0.1');
    world.driver.wrong.set(101n, ['its sk_lookup link is not pinned']);
    expect(await check(ask())).toMatchObject({ faults: ['its sk_lookup link is not pinned'] });
    expect(await check(ask({ netns: '/ns/b' }))).toMatchObject({ faults: ['it is enrolled in network namespace /ns/a, not in /ns/b'] });
    await expect(check(ask({ netns: '/ns/none' }))).rejects.toMatchObject({ code: 'NETNS_GONE' });
    expect(await check(ask({ podName: 'out', podUid: 'u-out' }))).toMatchObject({ enrolled: false, faults: [] });
    expect(await check(ask({ podName: 'nobody' }))).toMatchObject({ enrolled: false, faults: [] });
  });

  it('wait, when they check, for a pod that is on its way', async () => {
    world.tunnel = 'hangs';
    world.reconciler.apply(mesh('ambient', pod('a', '/ns/a')));
    await world.settled('u-a', 'joining');
    const checked = handlers().check(ask());
    await vi.waitFor(() => {
      expect(world.release).toBeDefined();
    });
    world.release?.();
    expect(await checked).toMatchObject({ enrolled: true, faults: [] });
  });

  it('name what keeps a pod out when it is checked', async () => {
    world.tunnel = 'none';
    world.reconciler.apply(mesh('ambient', pod('a', '/ns/a')));
    await world.settled('u-a', 'pending');
    const { faults } = await handlers().check(ask());
    expect(faults.join()).toMatch(/it is not enrolled: .*no tunnel/);
  });

  it('collect what the runtime forgot, and nothing that lives', async () => {
    const paths = ['dead', 'alive', 'valid'].map((name) => join(directory, name));
    for (const [n, path] of paths.entries()) {
      mkdirSync(path);
      world.netns.set(path, 101 + n);
    }
    const [dead = '', alive = '', valid = ''] = paths;
    world.reconciler.apply(mesh('ambient', pod('a', dead), pod('b', alive), pod('c', valid)));
    for (const [n, podName] of ['a', 'b', 'c'].entries())
      await handlers().add(ask({ podName, podUid: `u-${podName}`, containerId: `c-${podName}`, netns: paths[n] ?? '' }));
    await handlers().add(ask({ network: 'other', containerId: 'c-x', netns: '/ns/a', podName: 'a', podUid: '' }));
    const { dev, ino } = statSync(alive, { bigint: true });
    const collector = handlers({ occupied: () => new Set([`${dev}:${ino}`]) });
    expect(await collector.gc({ network: 'k8s', valid: [{ containerId: 'c-c', ifname: 'eth0' }] })).toEqual({
      reaped: ['shop/a c-a'],
      kept: ['shop/b c-b'],
    });
    expect(['a', 'b', 'c'].map((name) => world.state(`u-${name}`))).toEqual(['out', 'enrolled', 'enrolled']);
    expect(sandboxes.attachments.inNetwork('k8s').map(({ containerId }) => containerId)).toEqual(['c-b', 'c-c']);
    expect(sandboxes.attachments.inNetwork('other')).toHaveLength(1);
    expect(await collector.gc({ network: 'nobody', valid: [] })).toEqual({ reaped: [], kept: [] });
  });

  it('survive what lies in the directory of attachments', () => {
    const path = join(directory, 'att');
    const { netns, network, containerId, podNamespace, podName, podUid } = ask({ netns: directory, containerId: 'c9' });
    const entry = { network, containerId, ifname: 'eth0', netns, podNamespace, podName, podUid };
    writeFileSync(join(path, 'half.json'), '{"network":');
    writeFileSync(join(path, 'c9@eth0.json.tmp'), JSON.stringify(entry));
    writeFileSync(join(path, 'c9@eth1.json'), JSON.stringify(entry));
    mkdirSync(join(path, 'directory'));
    new Attachments(path, log).remember({ ...entry, containerId: 'c8' });
    expect(new Attachments(path, log).of('c8', '')).toEqual([{ ...entry, containerId: 'c8' }]);
    expect(readdirSync(path)).toEqual(['c8@eth0.json']);
    // a directory that cannot be written is no reason to refuse
    const broken = new Attachments(join(directory, 'gone'), log);
    rmSync(join(directory, 'gone'), { recursive: true });
    broken.remember({ ...entry });
    expect(broken.of('c9', 'eth0')).toHaveLength(1);
    expect(existsSync(join(directory, 'gone'))).toBe(false);
  });
});
