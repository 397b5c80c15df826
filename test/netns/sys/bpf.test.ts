/** BPF objects, maps, links and the ring buffer. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { isBpffs, mountBpffs } from '../../../src/sys/bpffs.ts';
import { cgroup2Mount, cgroupId, createCgroup, removeCgroup } from '../../../src/sys/cgroup.ts';
import { native, type LoadedObject, type LoadOptions } from '../../../src/sys/native.ts';
import { Netns } from '../../../src/sys/netns.ts';
import { errorOf, openFds, Place, startThreads, until } from './place.ts';

const PROG_TYPE = { CGROUP_SOCK_ADDR: 18, SK_LOOKUP: 30 };
const ATTACH = { CGROUP_INET4_CONNECT: 10, SK_LOOKUP: 36 };
const HELPER = { SET_RETVAL: 187, SK_ASSIGN: 124, ABSENT: 100_000 };
const NONE: LoadOptions = { rodata: {}, reuse: {}, maxEntries: {} };

const u32 = (...values: number[]): Buffer => Buffer.from(new Uint32Array(values).buffer);
const u64 = (...values: bigint[]): Buffer => Buffer.from(new BigUint64Array(values).buffer);

describe('bpf', () => {
  let object: Buffer;
  let loaded: LoadedObject;
  let directory: string;
  let pins: string;
  let fds: number;
  let cgroup: string;
  const map = (name: string): number => loaded.maps.find((each) => each.name === name)!.fd;
  const program = (name: string): number => loaded.programs.find((each) => each.name === name)!.fd;

  beforeAll(() => {
    const sources = new URL('./objects.bpf.c', import.meta.url).pathname;
    directory = mkdtempSync(join(tmpdir(), 'cvt-addon-'));
    execFileSync('clang', [
      '-O2',
      '-g',
      '-target',
      'bpf',
      '-mcpu=v3',
      '-Wall',
      '-Werror',
      `-I/usr/include/${process.arch === 'x64' ? 'x86_64' : 'aarch64'}-linux-gnu`,
      '-c',
      sources,
      '-o',
      join(directory, 'objects.bpf.o'),
    ]);
    object = readFileSync(join(directory, 'objects.bpf.o'));
    pins = join(directory, 'bpffs');
    mountBpffs(pins);
    cgroup = join(cgroup2Mount(), `cvt-addon-bpf-${process.pid}`);
    createCgroup(cgroup);
    startThreads();
    fds = openFds();
    loaded = native.bpfLoad(object, {
      ...NONE,
      rodata: { wide: 0x1122334455667788n, narrow: -1, flag: 1 },
      maxEntries: { table: 5000 },
      programs: ['connect', 'events', 'lookup'],
    });
  });
  it('loads the datapath while a profiler sends signals', () => {
    const script = `
      import { bpfObject, native } from ${JSON.stringify(new URL('../../../src/sys/native.ts', import.meta.url).pathname)};
      for (let i = 0; i < 3; i++) native.bpfLoad(bpfObject(), { rodata: {}, reuse: {}, maxEntries: {} }).close();
      console.log('loaded');
    `;
    const profiled = ['--cpu-prof', '--cpu-prof-interval', '100', '--cpu-prof-dir', directory, '--input-type=module', '-e', script];
    expect(execFileSync(process.execPath, profiled, { encoding: 'utf8' })).toBe('loaded\n');
  });

  afterAll(() => {
    loaded.close();
    loaded.close();
    native.unmount(pins);
    removeCgroup(cgroup);
    expect(isBpffs(pins)).toBe(false);
    rmSync(directory, { recursive: true });
    expect(openFds()).toBe(fds);
  });

  it('sets constants, sizes and the programs to load', () => {
    const programs = loaded.programs.map(({ name, section, attachType }) => ({ name, section, attachType }));
    expect(programs.toSorted((a, b) => (a.name < b.name ? -1 : 1))).toEqual([
      { name: 'connect', section: 'cgroup/connect4', attachType: ATTACH.CGROUP_INET4_CONNECT },
      { name: 'events', section: 'tc', attachType: 0 },
      { name: 'lookup', section: 'sk_lookup', attachType: ATTACH.SK_LOOKUP },
    ]);
    expect(native.bpfInfo(map('table'))).toMatchObject({ kind: 'map', name: 'table', type: 1, keySize: 8, valueSize: 8, maxEntries: 5000 });
    expect(native.bpfTestRun(program('lookup'), { ctx: lookupContext() })).toMatchObject({ retval: 1 });
    // The program writes its constants: { wide, narrow as s8, flag }.
    expect(native.bpfMap(map('table')).lookup(u64(1n))).toEqual(new Uint8Array(u64(0x1122334455667788n)));
    expect(native.bpfMap(map('table')).lookup(u64(2n))).toEqual(new Uint8Array(u64(BigInt.asUintN(64, -1n))));
    expect(native.bpfMap(map('table')).lookup(u64(3n))).toEqual(new Uint8Array(u64(1n)));
  });

  /** struct bpf_sk_lookup of a TCP/IPv4 SYN. */
  function lookupContext(): Buffer {
    const context = Buffer.alloc(72);
    context.writeUInt32LE(2, 8); // family, after the 8 bytes of the socket
    context.writeUInt32LE(6, 12); // protocol
    return context;
  }

  it.each([
    ['a constant that is not there', { rodata: { absent: 1 } }, 'ENOENT', /absent/],
    ['a constant that does not fit', { rodata: { flag: 256 } }, 'ERANGE', /flag/],
    ['a map that is not there', { maxEntries: { absent: 1 } }, 'ENOENT', /absent/],
    ['a program that is not there', { programs: ['absent'] }, 'ENOENT', /absent/],
    ['a pin that is not there', { reuse: { table: '/absent' } }, 'ENOENT', /absent/],
  ] satisfies [string, Partial<LoadOptions>, string, RegExp][])('refuses %s', (_, options, code, message) => {
    const error = errorOf(() => native.bpfLoad(object, { ...NONE, ...options }));
    expect(error).toMatchObject({ code });
    expect(error.message).toMatch(message);
  });

  it('refuses what is no object', () => {
    for (const bytes of [Buffer.alloc(0), Buffer.from('garbage'), object.subarray(0, 200)])
      expect(() => native.bpfLoad(bytes, NONE)).toThrow(/bpf_object__open_mem|Invalid/);
  });

  it('keeps the whole log of a rejected program, and its name', () => {
    const error = errorOf(() => native.bpfLoad(object, { ...NONE, programs: ['connect', 'rejected'] })) as NodeJS.ErrnoException & {
      log: string;
      program: string;
    };
    expect(error).toMatchObject({ code: 'EACCES', program: 'rejected', syscall: 'bpf(BPF_PROG_LOAD)' });
    expect(error.message).toContain('invalid bpf_context access');
    expect(error.log).toContain('processed ');
  });

  it('loads an instance of a program with its constant patched', () => {
    const code = Buffer.from(native.bpfInstructions(loaded, 'lookup'));
    // lddw of 0x7ca1be27c01e0001: the low half is in the first instruction's immediate, the high half in the second's.
    const at = code.indexOf(u32(0xc01e0001));
    expect(code.readUInt32LE(at + 8)).toBe(0x7ca1be27);
    code.writeUInt32LE(42, at);
    code.writeUInt32LE(0, at + 8);
    const fd = native.bpfProgLoad(code, PROG_TYPE.SK_LOOKUP, ATTACH.SK_LOOKUP, 'culvert_pod', 'GPL');
    expect(native.bpfInfo(fd)).toMatchObject({ kind: 'prog', name: 'culvert_pod', type: PROG_TYPE.SK_LOOKUP });
    native.bpfTestRun(fd, { ctx: lookupContext() });
    expect(native.bpfMap(map('table')).lookup(u64(4n))).toEqual(new Uint8Array(u64(42n)));
    native.closeFd(fd);
    const error = errorOf(() => native.bpfProgLoad(code.subarray(0, 16), PROG_TYPE.SK_LOOKUP, ATTACH.SK_LOOKUP, 'broken', 'GPL'));
    expect(error).toMatchObject({ program: 'broken', log: expect.stringMatching(/\S/) as string });
    expect(errorOf(() => native.bpfProgLoad(code.subarray(0, 13), PROG_TYPE.SK_LOOKUP, ATTACH.SK_LOOKUP, 'broken', 'GPL'))).toMatchObject({
      code: 'EINVAL',
    });
  });

  it('loads a program on another thread, and says why it could not', async () => {
    const code = native.bpfInstructions(loaded, 'lookup');
    const fd = await native.bpfProgLoadAside(code, PROG_TYPE.SK_LOOKUP, ATTACH.SK_LOOKUP, 'culvert_pod', 'GPL');
    expect(native.bpfInfo(fd)).toMatchObject({ kind: 'prog', name: 'culvert_pod', type: PROG_TYPE.SK_LOOKUP });
    native.closeFd(fd);
    const broken = native.bpfProgLoadAside(code.subarray(0, 16), PROG_TYPE.SK_LOOKUP, ATTACH.SK_LOOKUP, 'broken', 'GPL');
    await expect(broken).rejects.toMatchObject({ program: 'broken', log: expect.stringMatching(/\S/) as string });
  });

  it('makes a map that goes with its last user', () => {
    const fd = native.bpfMapCreate(2, 'made', { keySize: 4, valueSize: 8, maxEntries: 1, flags: 1 << 7 });
    expect(native.bpfInfo(fd)).toMatchObject({ kind: 'map', name: 'made', type: 2, keySize: 4, valueSize: 8, maxEntries: 1 });
    native.bpfMap(fd).update(u32(0), u64(7n));
    expect(native.bpfMap(fd).lookup(u32(0))).toEqual(new Uint8Array(u64(7n)));
    native.closeFd(fd);
    const wrong = { keySize: 8, valueSize: 8, maxEntries: 1, flags: 0 }; // keys of arrays are 4 bytes
    expect(errorOf(() => native.bpfMapCreate(2, 'wrong', wrong))).toMatchObject({ code: 'EINVAL', syscall: 'bpf(BPF_MAP_CREATE)' });
  });

  it('reads, writes and deletes entries', () => {
    const key = u64(77n);
    expect(native.bpfMap(map('table')).lookup(key)).toBeUndefined();
    native.bpfMap(map('table')).update(key, u64(1n), 1);
    expect(errorOf(() => native.bpfMap(map('table')).update(key, u64(2n), 1))).toMatchObject({ code: 'EEXIST' });
    expect(native.bpfMap(map('table')).delete(key)).toBe(true);
    expect(native.bpfMap(map('table')).delete(key)).toBe(false);
    expect(errorOf(() => native.bpfMap(map('table')).update(key, u64(2n), 2))).toMatchObject({ code: 'ENOENT' });
    for (const action of [
      () => native.bpfMap(map('table')).lookup(u32(1)),
      () => native.bpfMap(map('table')).update(key, u32(1)),
      () => native.bpfMap(map('table')).delete(Buffer.alloc(0)),
      () => native.bpfMap(map('table')).deleteAll(Buffer.alloc(12)),
    ])
      expect(errorOf(action)).toMatchObject({ code: 'EINVAL' });
  });

  it('deletes many keys by one call, whether they are there or not', () => {
    for (const key of [81n, 83n]) native.bpfMap(map('table')).update(u64(key), u64(1n));
    expect(native.bpfMap(map('table')).deleteAll(u64(80n, 81n, 82n, 83n, 84n))).toBe(2);
    for (const key of [81n, 83n]) expect(native.bpfMap(map('table')).lookup(u64(key))).toBeUndefined();
    expect(native.bpfMap(map('table')).deleteAll(Buffer.alloc(0))).toBe(0);
  });

  it('dumps thousands of entries, each once, while others come and go', () => {
    const standing = 3000;
    for (let i = 0; i < standing; i++) native.bpfMap(map('table')).update(u64(BigInt(1000 + i)), u64(BigInt(i)));
    for (let round = 0; round < 20; round++) {
      const seen = native.bpfMapDump(map('table')).map(({ key }) => Buffer.from(key).readBigUInt64LE());
      expect(new Set(seen).size).toBe(seen.length);
      expect(seen.filter((key) => key >= 1000n && key < 1000n + BigInt(standing))).toHaveLength(standing);
      for (let i = 0; i < 50; i++) native.bpfMap(map('table')).delete(u64(BigInt(100_000 + round * 50 + i)));
      for (let i = 0; i < 50; i++) native.bpfMap(map('table')).update(u64(BigInt(100_050 + round * 50 + i)), u64(0n));
    }
  });

  it('reads values of every CPU', () => {
    const cpus = native.bpfPossibleCpus();
    // 4-byte values are rounded up to 8 per CPU.
    const value = Buffer.alloc(8 * cpus);
    for (let cpu = 0; cpu < cpus; cpu++) value.writeUInt32LE(cpu + 1, cpu * 8);
    native.bpfMap(map('percpu')).update(u32(1), value);
    expect(native.bpfMap(map('percpu')).lookup(u32(1))).toHaveLength(8 * cpus);
    expect(native.bpfMapDump(map('percpu'))).toEqual([{ key: new Uint8Array(u32(1)), value: new Uint8Array(value) }]);
  });

  it('puts a listener into a SOCKHASH, whose entry goes with the socket', async () => {
    const place = Place.create('hash');
    const fd = native.netnsSocket(place.netns.fd, {
      family: 6,
      type: 'tcp',
      mark: 0x539,
      bind: { address: '::', port: 15001 },
      listen: { backlog: 1 },
    });
    native.bpfMap(map('sockets')).update(u32(1), u64(BigInt(fd)));
    const [socket] = place.netns.run({ op: 'sockets', mark: 0x539, mask: 0xfff });
    expect(native.bpfMapDump(map('sockets'))).toEqual([{ key: new Uint8Array(u32(1)), value: new Uint8Array(u64(socket!.cookie)) }]);
    native.closeFd(fd);
    await until('the entry is gone', () => native.bpfMapDump(map('sockets')).length === 0);
    expect(native.bpfMap(map('sockets')).delete(u32(1))).toBe(false);
    place.close();
  });

  it('pins, and takes a pinned map over only with the same layout', () => {
    const pin = join(pins, 'table');
    native.bpfPin(map('table'), pin);
    expect(errorOf(() => native.bpfPin(map('table'), pin))).toMatchObject({ code: 'EEXIST' });
    const again = native.bpfLoad(object, { ...NONE, reuse: { table: pin }, programs: ['lookup'] });
    const taken = again.maps.find((each) => each.name === 'table')!;
    expect(native.bpfInfo(taken.fd).id).toBe(native.bpfInfo(map('table')).id);
    again.close();
    expect(errorOf(() => native.bpfInstructions(again, 'lookup'))).toMatchObject({ code: 'EBADF' });
    expect(errorOf(() => native.bpfLoad(object, { ...NONE, reuse: { percpu: pin } }))).toMatchObject({ code: 'EINVAL', map: 'percpu' });
    expect(errorOf(() => native.bpfPin(map('table'), join(pins, 'with.dot')))).toMatchObject({ code: 'EPERM' });
    const fd = native.bpfGet(pin);
    native.closeFd(fd);
    rmSync(pin);
  });

  it('mounts bpffs once', () => {
    expect(isBpffs(pins)).toBe(true);
    expect(mountBpffs(pins)).toBe(false);
    expect(isBpffs(join(pins, 'absent'))).toBe(false);
  });

  it('links programs to a cgroup, swaps and detaches them', () => {
    const fd = native.bpfGet(pinned(program('connect'), 'connect'));
    const directoryFd = openSync(cgroup, 'r');
    const link = native.bpfLinkCreate(fd, directoryFd, ATTACH.CGROUP_INET4_CONNECT);
    const id = native.bpfInfo(fd).id;
    expect(native.bpfInfo(link)).toMatchObject({
      kind: 'link',
      progId: id,
      cgroupId: cgroupId(cgroup),
      attachType: ATTACH.CGROUP_INET4_CONNECT,
    });
    expect(native.bpfCgroupQuery(directoryFd, ATTACH.CGROUP_INET4_CONNECT)).toEqual([id]);
    const other = native.bpfLoad(object, { ...NONE, programs: ['connect'] });
    native.bpfLinkUpdate(link, other.programs[0]!.fd);
    expect(native.bpfCgroupQuery(directoryFd, ATTACH.CGROUP_INET4_CONNECT)).toEqual([native.bpfInfo(other.programs[0]!.fd).id]);
    native.bpfLinkDetach(link);
    expect(native.bpfCgroupQuery(directoryFd, ATTACH.CGROUP_INET4_CONNECT)).toEqual([]);
    expect(native.bpfInfo(link).cgroupId).toBe(0n);
    other.close();
    for (const each of [link, directoryFd, fd]) native.closeFd(each);
    rmSync(join(pins, 'connect'));
  });

  it('links sk_lookup to a netns, and the link tells which', () => {
    const place = Place.create('link');
    const link = native.bpfLinkCreate(program('lookup'), place.netns.fd, ATTACH.SK_LOOKUP);
    expect(place.netns.identity).toMatch(new RegExp(`:${native.bpfInfo(link).netnsIno}$`));
    native.bpfLinkDetach(link);
    expect(native.bpfInfo(link).netnsIno).toBe(0);
    native.closeFd(link);
    place.close();
    using own = Netns.ofProcess(process.pid);
    expect(errorOf(() => native.bpfLinkCreate(program('connect'), own.fd, ATTACH.SK_LOOKUP))).toMatchObject({ code: 'EINVAL' });
  });

  function pinned(fd: number, name: string): string {
    native.bpfPin(fd, join(pins, name));
    return join(pins, name);
  }

  it('probes helpers, not versions', () => {
    expect(native.bpfProbeHelper(PROG_TYPE.CGROUP_SOCK_ADDR, ATTACH.CGROUP_INET4_CONNECT, HELPER.SET_RETVAL)).toBe(true);
    expect(native.bpfProbeHelper(PROG_TYPE.SK_LOOKUP, ATTACH.SK_LOOKUP, HELPER.SK_ASSIGN)).toBe(true);
    expect(native.bpfProbeHelper(PROG_TYPE.CGROUP_SOCK_ADDR, ATTACH.CGROUP_INET4_CONNECT, HELPER.SK_ASSIGN)).toBe(false);
    expect(native.bpfProbeHelper(PROG_TYPE.SK_LOOKUP, ATTACH.SK_LOOKUP, HELPER.ABSENT)).toBe(false);
  });

  it('reads every record of the ring buffer in order, in bounded calls', async () => {
    const seen: number[] = [];
    const sizes: number[] = [];
    const ring = native.bpfRingbuf(map('ring'), 10, (records) => {
      sizes.push(records.length);
      for (const record of records) seen.push(Buffer.from(record).readUInt32LE(0));
    });
    native.bpfTestRun(program('events'), { data: Buffer.alloc(64), repeat: 3000 });
    await until('all have arrived', () => seen.length >= 3000);
    expect(seen).toEqual(Array.from({ length: 3000 }, (_, i) => i));
    expect(Math.max(...sizes)).toBeLessThanOrEqual(1024);
    ring.close();
    ring.close();
    native.bpfTestRun(program('events'), { data: Buffer.alloc(64), repeat: 5 });
    await new Promise((resolve) => setTimeout(resolve, 30));
    expect(seen).toHaveLength(3000);
    expect(errorOf(() => native.bpfRingbuf(map('table'), 10, () => undefined))).toMatchObject({ syscall: 'ring_buffer__new' });
  });

  it('tells map, program and link from anything else', () => {
    expect(errorOf(() => native.bpfInfo(0))).toMatchObject({ code: 'EINVAL' });
    expect(errorOf(() => native.bpfInfo(9999))).toMatchObject({ code: 'ENOENT', syscall: 'readlink' });
    for (const action of [() => native.bpfMapDump(program('lookup')), () => native.bpfMap(program('lookup')).lookup(u32(1))])
      expect(errorOf(action)).toMatchObject({ code: 'EINVAL' });
  });
});
