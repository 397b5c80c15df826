/** Pods found by their processes: real namespaces, cgroups and procfs. */
import { randomBytes, randomUUID } from 'node:crypto';
import { existsSync } from 'node:fs';
import { pino } from 'pino';
import { afterAll, afterEach, beforeEach, describe, expect, it } from 'vitest';
import { ProcDiscovery, type Sought } from '../../../src/enrol/discovery.ts';
import { isProcessPath, openNetns, type Netns } from '../../../src/enrol/netns.ts';
import type { PodRecord } from '../../../src/sources/source.ts';
import { native } from '../../../src/sys/native.ts';
import { Netns as SysNetns } from '../../../src/sys/netns.ts';
import { namespaceId } from '../../../src/sys/procfs.ts';
import { pod } from '../../support/enrol-world.ts';
import { hasV1, Sandboxes, type CgroupVersion } from './sandboxes.ts';

const cgroupfs = (uid: string, id: string): string => `/kubepods/burstable/pod${uid}/${id}`;
const systemd =
  (runtime: string) =>
  (uid: string, id: string): string =>
    `/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod${uid.replaceAll('-', '_')}.slice/${runtime}-${id}.scope`;
const SHAPES = [
  ['containerd, cgroupfs', cgroupfs],
  ['containerd, systemd', systemd('cri-containerd')],
  ['CRI-O, systemd', systemd('crio')],
  ['docker, systemd', systemd('docker')],
  ['static pod', (uid: string, id: string): string => cgroupfs(uid.replaceAll('-', ''), id)],
] as const;
const VERSIONS: CgroupVersion[] = hasV1 ? ['v1', 'v2', 'hybrid'] : ['v2'];

const containerId = (): string => randomBytes(32).toString('hex');
const ofProcess = (pid: number | undefined): string => `/proc/${pid}/ns/net`;

describe('discovery on this machine', () => {
  let boxes: Sandboxes;
  let discovery: ProcDiscovery;
  const open: Netns[] = [];
  const all: Sandboxes[] = [];
  beforeEach(() => {
    boxes = new Sandboxes('enr');
    all.push(boxes);
    discovery = new ProcDiscovery({
      procRoot: '/proc',
      nodeNetns: '/proc/self/ns/net',
      announced: () => [],
      openNetns: (path) => openNetns(path, (fd) => native.netnsCookie(fd)),
      addressesOf: (fd) =>
        SysNetns.adopt(fd)
          .run({ op: 'addresses' })
          .map(({ address }) => address),
      log: pino({ level: 'silent' }),
    });
  });
  afterEach(async () => {
    for (const netns of open.splice(0)) netns.close();
    await boxes.close();
  });
  afterAll(() => {
    expect(all.flatMap((each) => each.leftovers())).toEqual([]);
  });

  const seek = async (...sought: Sought[]): Promise<Map<string, Netns>> => {
    const found = new Map<string, Netns>();
    for (const [uid, netns] of await discovery.find(sought)) {
      if (netns instanceof Error) throw netns;
      found.set(uid, netns);
      open.push(netns);
    }
    return found;
  };
  const find = async (record: PodRecord, cookie?: bigint): Promise<Netns | undefined> => (await seek({ record, cookie })).get(record.uid);
  const record = (ips: string[], over: Partial<PodRecord> = {}): PodRecord => pod('p', undefined, { uid: randomUUID(), ips, ...over });

  it.each(SHAPES.flatMap(([name, shape]) => VERSIONS.map((version) => [name, version, shape] as const)))(
    '%s, cgroup %s',
    async (_, version, shape) => {
      const p = record(['10.99.0.1', 'fd99::1']);
      const pause = await boxes.sandbox(shape(p.uid, containerId()), ['fd99::1'], { version });
      const found = await find(p);
      expect(found?.path).toBe(ofProcess(pause.pid));
      expect(found?.cookie).toBe(native.netnsCookie(found?.fd ?? -1));
      expect(found?.gone()).toBe(false);
      await boxes.end(pause);
      expect(found?.gone()).toBe(true);
      expect(await find(p)).toBeUndefined();
    },
  );

  it('takes the path that the runtime keeps, which outlives every process', async () => {
    const p = record(['10.99.0.2']);
    const pause = await boxes.sandbox(cgroupfs(p.uid, containerId()), ['10.99.0.2'], { mount: 'a' });
    const found = await find(p);
    expect(found?.path).toMatch(new RegExp(`/netns/${boxes.prefix}-a$`));
    await boxes.end(pause);
    expect(found?.gone()).toBe(false);
    // no process is left (CRI-O without pause, between two starts of the container): the pod has its netns all the same
    expect((await find(p, found?.cookie))?.cookie).toBe(found?.cookie);
    expect(await find(p)).toBeUndefined();
    boxes.unmount('a');
    expect(found?.gone()).toBe(true);
    expect(await find(p, found?.cookie)).toBeUndefined();
  });

  it('follows a netns from the process that ends to the next one', async () => {
    const p = record(['10.99.0.3']);
    const path = cgroupfs(p.uid, containerId());
    const pause = await boxes.sandbox(path, ['10.99.0.3']);
    const app = await boxes.container(cgroupfs(p.uid, containerId()), pause);
    const first = await find(p);
    expect(first?.path).toBe(ofProcess(pause.pid));
    await boxes.end(pause);
    const second = await find(p, first?.cookie);
    expect(second?.path).toBe(ofProcess(app.pid));
    expect(second?.cookie).toBe(first?.cookie);
  });

  it('knows a sandbox made anew under the same uid from what is left of the old one', async () => {
    const p = record(['10.99.0.4']);
    const old = await boxes.sandbox(cgroupfs(p.uid, containerId()), ['10.99.0.4']);
    const had = await find(p);
    const next = await boxes.sandbox(cgroupfs(p.uid, containerId()), ['10.99.0.5']);
    expect((await find(p, had?.cookie))?.path).toBe(ofProcess(old.pid)); // the API does not say the new address yet
    const moved = await find({ ...p, ips: ['10.99.0.5'] }, had?.cookie);
    expect(moved?.path).toBe(ofProcess(next.pid));
    expect(moved?.cookie).not.toBe(had?.cookie);
  });

  it('is not misled by processes that are somewhere else than they belong', async () => {
    const a = record(['10.99.0.6']);
    const b = record(['10.99.0.7']);
    const pathA = cgroupfs(a.uid, containerId());
    const pauseB = await boxes.sandbox(cgroupfs(b.uid, containerId()), ['10.99.0.7']);
    await boxes.container(pathA, pauseB); // of pod a, older than its sandbox, in the netns of pod b
    const inner = await boxes.sandbox(pathA, ['172.17.0.2']); // docker in the pod
    const pauseA = await boxes.sandbox(pathA, ['10.99.0.6']);
    const host = await boxes.container('/', pauseA); // somebody of the host who entered it
    await boxes.container(cgroupfs(randomUUID(), containerId()), pauseA); // an ephemeral pod of the host's that did
    const found = await seek({ record: a, cookie: undefined }, { record: b, cookie: undefined });
    expect(found.get(a.uid)?.path).toBe(ofProcess(pauseA.pid));
    expect(found.get(b.uid)?.path).toBe(ofProcess(pauseB.pid));
    for (const child of [pauseA, inner]) await boxes.end(child);
    expect(host.exitCode).toBeNull();
    expect(await find(a)).toBeUndefined();
  });

  it('never takes the netns of the node, whoever is in it', async () => {
    const own = native.netnsRun(openOwn(), [{ op: 'addresses' }])[0];
    const ips = (own?.ok === true ? (own.value as { address: string }[]) : []).map(({ address }) => address);
    const p = record(['127.0.0.1', ...ips]);
    const child = await boxes.container(cgroupfs(p.uid, containerId()), { pid: process.pid } as never);
    expect(namespaceId(ofProcess(child.pid))).toBe(namespaceId('/proc/self/ns/net'));
    expect(await find(p)).toBeUndefined();
  });
  const openOwn = (): number => {
    const netns = openNetns('/proc/self/ns/net', (fd) => native.netnsCookie(fd));
    open.push(netns);
    return netns.fd;
  };

  it('holds the netns itself: it is there when its process and its cgroup are gone', async () => {
    const p = record(['10.99.0.8']);
    const pause = await boxes.sandbox(cgroupfs(p.uid, containerId()), ['10.99.0.8']);
    const found = await find(p);
    expect(isProcessPath(found?.path ?? '')).toBe(true);
    await boxes.end(pause);
    expect(existsSync(ofProcess(pause.pid))).toBe(false);
    expect(
      SysNetns.adopt(found?.fd ?? -1)
        .run({ op: 'addresses' })
        .map(({ address }) => address),
    ).toContain('10.99.0.8');
  });
});
