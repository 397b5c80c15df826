import { linkSync, mkdirSync, mkdtempSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { CulvertError } from '../../../src/base/errors.ts';
import { ProcDiscovery, type Sought } from '../../../src/enrol/discovery.ts';
import { CONFIG_HASH_ANNOTATION, type PodRecord } from '../../../src/sources/source.ts';
import { pod } from '../../support/enrol-world.ts';

const uidOf = (n: number): string => `0000000${n}-0000-4000-8000-000000000000`;
const ID = 'ab'.repeat(32);

/** A procfs of files: namespaces are files, a process's `ns/net` is a hard link to one, and its cookie is the inode. */
class FakeProc {
  readonly root = mkdtempSync(join(tmpdir(), 'cvt-proc-'));
  readonly addresses = new Map<bigint, string[]>();
  readonly announced = new Map<string, string[]>();
  readonly open = new Set<string>();
  opened = 0;
  /** at once */
  most = 0;
  readonly discovery: ProcDiscovery;

  constructor() {
    this.process(1, { netns: 'host', cgroup: '/init.scope', started: 1 });
    this.discovery = new ProcDiscovery({
      procRoot: this.root,
      nodeNetns: join(this.root, '1/ns/net'),
      announced: (record) => this.announced.get(record.uid) ?? [],
      openNetns: (path) => {
        const stat = statSync(path, { bigint: true, throwIfNoEntry: false });
        if (stat === undefined) throw new CulvertError('NETNS_GONE', `open ${path}`);
        const name = `${++this.opened} ${path}`;
        this.open.add(name);
        this.most = Math.max(this.most, this.open.size);
        return { path, fd: Number(stat.ino), cookie: stat.ino, gone: () => false, close: () => void this.open.delete(name) };
      },
      addressesOf: (fd) => this.addresses.get(BigInt(fd)) ?? [],
      log: pino({ level: 'silent' }),
    });
  }

  /** @returns its cookie */
  netns(name: string, ...addresses: string[]): bigint {
    const path = join(this.root, `netns-${name}`);
    writeFileSync(path, '', { flag: 'a' });
    const { ino } = statSync(path, { bigint: true });
    if (addresses.length > 0) this.addresses.set(ino, addresses);
    return ino;
  }

  process(pid: number, { netns, cgroup, started }: { netns: string; cgroup: string; started: number }): void {
    const directory = join(this.root, String(pid));
    rmSync(directory, { recursive: true, force: true });
    mkdirSync(join(directory, 'ns'), { recursive: true });
    this.netns(netns);
    linkSync(join(this.root, `netns-${netns}`), join(directory, 'ns/net'));
    writeFileSync(join(directory, 'cgroup'), `0::${cgroup}\n`);
    writeFileSync(join(directory, 'stat'), `${pid} (a) b) S ${'0 '.repeat(18)}${started} 0\n`);
  }

  end(pid: number): void {
    rmSync(join(this.root, String(pid)), { recursive: true });
  }

  async find(...records: PodRecord[]): Promise<Record<string, bigint>> {
    return this.seek(...records.map((record) => ({ record, cookie: undefined })));
  }

  async seek(...sought: Sought[]): Promise<Record<string, bigint>> {
    const found = await this.discovery.find(sought);
    expect(this.open.size).toBe(found.size); // what was not chosen is closed, and nobody could not be looked for
    return Object.fromEntries(
      [...found].map(([uid, netns]) => {
        if (netns instanceof Error) throw netns;
        netns.close();
        return [uid, netns.cookie];
      }),
    );
  }

  close(): void {
    rmSync(this.root, { recursive: true });
  }
}

const of = (n: number, container = ID): string => `/kubepods/burstable/pod${uidOf(n)}/${container}`;
const record = (n: number, over: Partial<PodRecord> = {}): PodRecord =>
  pod(`p${n}`, undefined, { uid: uidOf(n), ips: [`10.0.0.${n}`], ...over });

describe('discovery', () => {
  let proc: FakeProc;
  beforeEach(() => {
    proc = new FakeProc();
  });
  afterEach(() => {
    expect(proc.open.size).toBe(0);
    proc.close();
  });

  it('finds the pods whose processes are in a netns with one of their addresses, many in one walk', async () => {
    const a = proc.netns('a', '127.0.0.1', '10.0.0.1');
    const b = proc.netns('b', 'fd00::2');
    proc.process(100, { netns: 'a', cgroup: of(1), started: 10 });
    proc.process(101, { netns: 'b', cgroup: of(2), started: 10 });
    proc.process(102, { netns: 'host', cgroup: of(3), started: 5 });
    expect(await proc.find(record(1), record(2, { ips: ['10.0.0.9', 'FD00:0::2'] }), record(3), record(4))).toEqual({
      [uidOf(1)]: a,
      [uidOf(2)]: b,
    });
  });

  it('believes no process alone: the netns must have an address of the pod', async () => {
    const own = proc.netns('own', '10.0.0.1');
    proc.netns('other', '10.0.0.2');
    proc.process(100, { netns: 'other', cgroup: of(1), started: 1 }); // pod 1, but in the netns of pod 2
    proc.process(101, { netns: 'own', cgroup: of(1), started: 10 });
    proc.process(102, { netns: 'own', cgroup: '/system.slice/sshd.service', started: 1 }); // somebody debugging
    expect(await proc.find(record(1), record(2))).toEqual({ [uidOf(1)]: own });
    proc.end(101);
    expect(await proc.find(record(1))).toEqual({});
    expect(await proc.find(record(2, { ips: [] }))).toEqual({});
  });

  it('takes the netns of the oldest process where several have the address', async () => {
    const inner = proc.netns('inner', '10.0.0.1');
    const outer = proc.netns('outer', '10.0.0.1');
    proc.process(100, { netns: 'inner', cgroup: of(1), started: 30 });
    proc.process(101, { netns: 'outer', cgroup: of(1), started: 20 });
    proc.process(102, { netns: 'inner', cgroup: of(1), started: 25 });
    expect(await proc.find(record(1))).toEqual({ [uidOf(1)]: outer });
    // the one it had stays it, as long as it has the address too
    expect(await proc.seek({ record: record(1), cookie: inner })).toEqual({ [uidOf(1)]: inner });
  });

  it('keeps the netns that the pod had while a process of it is there, whatever its address is said to be', async () => {
    const had = proc.netns('had', '10.0.0.7');
    proc.process(100, { netns: 'had', cgroup: of(1), started: 30 });
    expect(await proc.find(record(1))).toEqual({});
    expect(await proc.seek({ record: record(1), cookie: had })).toEqual({ [uidOf(1)]: had });
    // but not where the pod has its address in another one: its sandbox was made anew
    const next = proc.netns('next', '10.0.0.1');
    proc.process(101, { netns: 'next', cgroup: of(1), started: 40 });
    expect(await proc.seek({ record: record(1), cookie: had })).toEqual({ [uidOf(1)]: next });
  });

  it('goes by what the plugin announced before it looks at any process', async () => {
    const announced = proc.netns('announced', '10.0.0.1');
    proc.netns('stale', '10.0.0.2');
    const paths = ['gone', 'stale', 'announced'].map((name) => join(proc.root, `netns-${name}`));
    proc.announced.set(uidOf(1), paths);
    expect(await proc.find(record(1))).toEqual({ [uidOf(1)]: announced });
    expect(await proc.find(record(1, { ips: ['10.0.0.3'] }))).toEqual({});
  });

  it('looks at few of the many that a pod made by itself, and holds few of them open', async () => {
    for (let n = 0; n < 300; n++) proc.process(1000 + n, { netns: `n${n}`, cgroup: of(1), started: 10 + n });
    expect(await proc.find(record(1))).toEqual({});
    expect(proc.opened).toBeLessThanOrEqual(64);
    const own = proc.netns('own', '10.0.0.1');
    proc.process(100, { netns: 'own', cgroup: of(1), started: 1 });
    expect(await proc.find(record(1))).toEqual({ [uidOf(1)]: own });
    expect(await proc.seek({ record: record(1), cookie: 1n })).toEqual({ [uidOf(1)]: own });
    expect(proc.most).toBeLessThanOrEqual(2);
  });

  it('knows static pods by the hash, and others by a container, where the cgroup says only that', async () => {
    const a = proc.netns('a', '10.0.0.1');
    const b = proc.netns('b', '10.0.0.2');
    const hash = uidOf(5).replaceAll('-', '');
    proc.process(100, { netns: 'a', cgroup: `/kubepods/pod${hash}/${ID}`, started: 1 });
    proc.process(101, { netns: 'b', cgroup: `/../crio-${ID}.scope`, started: 1 });
    expect(await proc.find(record(1, { annotations: { [CONFIG_HASH_ANNOTATION]: hash } }), record(2, { containerIds: [ID] }))).toEqual({
      [uidOf(1)]: a,
      [uidOf(2)]: b,
    });
  });

  it('needs no walk for what a survey saw, and does not believe it blindly', async () => {
    const a = proc.netns('a', '10.0.0.1');
    proc.process(100, { netns: 'a', cgroup: of(1), started: 10 });
    await proc.discovery.survey();
    rmSync(join(proc.root, '100/cgroup')); // a walk could not tell any more whose process it is
    expect(await proc.find(record(1))).toEqual({ [uidOf(1)]: a });
    // its number is another process's by now; in the same netns or not, it is not the one that was seen
    proc.process(100, { netns: 'a', cgroup: '/system.slice/x.service', started: 11 });
    expect(await proc.find(record(1))).toEqual({});
    proc.process(100, { netns: 'a', cgroup: of(1), started: 12 });
    expect(await proc.find(record(1))).toEqual({ [uidOf(1)]: a });
    const moved = proc.netns('moved', '10.0.0.1');
    proc.process(100, { netns: 'moved', cgroup: of(1), started: 12 }); // as setns does
    expect(await proc.find(record(1))).toEqual({ [uidOf(1)]: moved });
  });

  it('gives what it found already where it cannot look any further, and says for whom it could not', async () => {
    const announced = proc.netns('announced', '10.0.0.1');
    proc.announced.set(uidOf(1), [join(proc.root, 'netns-announced')]);
    rmSync(join(proc.root, '1'), { recursive: true });
    // what is listed there as a process is none: nothing under it can be read
    writeFileSync(join(proc.root, '77'), '');
    const found = await proc.discovery.find([1, 2].map((n) => ({ record: record(n), cookie: undefined })));
    const [netns, error] = [1, 2].map((n) => found.get(uidOf(n)));
    expect(netns).toMatchObject({ cookie: announced });
    expect(error).toMatchObject({ code: 'SYSTEM', cause: { code: 'ENOTDIR' } });
    if (netns instanceof Error) throw netns;
    netns?.close();
  });

  it('goes on past a process whose cgroup has a longer path than the kernel tells, as whoever may make cgroups can have it', async () => {
    const a = proc.netns('a', '10.0.0.1');
    for (const pid of [99, 101]) {
      proc.process(pid, { netns: 'b', cgroup: of(2), started: 1 });
      rmSync(join(proc.root, `${pid}/cgroup`));
      symlinkSync('d'.repeat(300), join(proc.root, `${pid}/cgroup`)); // ENAMETOOLONG
    }
    proc.process(100, { netns: 'a', cgroup: of(1), started: 10 });
    expect(await proc.find(record(1), record(2))).toEqual({ [uidOf(1)]: a });
  });

  it('says so when there is no procfs', async () => {
    rmSync(join(proc.root, '1'), { recursive: true });
    const broken = new FakeProc();
    broken.close();
    const found = await broken.discovery.find([{ record: record(1), cookie: undefined }]);
    expect(found.get(uidOf(1))).toMatchObject({ message: expect.stringMatching(/^list processes: ENOENT/) as string });
    await broken.discovery.survey(); // logged
  });
});
