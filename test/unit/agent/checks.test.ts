import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { lookAtApiServer, neededPermissions } from '../../../src/agent/checks/api-server.ts';
import { lookAtBpffs, type BpffsView } from '../../../src/agent/checks/bpffs.ts';
import { lookAtCapabilities } from '../../../src/agent/checks/capabilities.ts';
import { lookAtCgroup } from '../../../src/agent/checks/cgroup.ts';
import { Fault, judge } from '../../../src/agent/checks/check.ts';
import { lookAtChain } from '../../../src/agent/checks/cni-chain.ts';
import { lookAtHooks } from '../../../src/agent/checks/hooks.ts';
import { lookAtKernel } from '../../../src/agent/checks/kernel.ts';
import { lookAtProcfs } from '../../../src/agent/checks/procfs.ts';
import { lookAtDriver, lookAtPods, lookAtSource, lookAtTunnel } from '../../../src/agent/checks/running.ts';
import { lookAtSysctls } from '../../../src/agent/checks/sysctls.ts';
import { CulvertError } from '../../../src/base/errors.ts';
import type { KubeObject } from '../../../src/kubernetes/api.ts';
import { CGROUP_PROGRAMS, cgroupPrograms } from '../../../src/redirect/ebpf/index.ts';
import { cgroup2Mount } from '../../../src/sys/cgroup.ts';
import { mountsOf } from '../../../src/sys/mountinfo.ts';
import { mesh, pod, World } from '../../support/enrol-world.ts';
import { kindnet } from '../../support/install.ts';

/** What a look throws, as "detail | remedy". */
async function fault(look: () => unknown): Promise<string> {
  try {
    await look();
  } catch (error) {
    if (error instanceof Fault) return `${error.message} | ${error.remedy}`;
    throw error;
  }
  throw new Error('it found no fault');
}

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'cvt-checks-'));
});
afterEach(() => {
  rmSync(directory, { recursive: true });
});

describe('a check', () => {
  it('is what was found, or the fault with its remedy', async () => {
    expect(await judge('x', () => 'well')).toEqual({ name: 'x', ok: true, detail: 'well', remedy: '' });
    expect(await judge('x', () => Promise.reject(new Fault('ill', 'rest')))).toEqual({
      name: 'x',
      ok: false,
      detail: 'ill',
      remedy: 'rest',
    });
    const other = (): string => {
      throw new CulvertError('SYSTEM', 'read y');
    };
    expect(await judge('x', other, 'look at y')).toEqual({ name: 'x', ok: false, detail: 'read y', remedy: 'look at y' });
  });
});

describe('capabilities', () => {
  it.each([
    ['000001ffffffffff', undefined],
    ['0000000000281000', undefined],
    ['0000000000280000', 'NET_ADMIN'],
    ['0000000000081000', 'SYS_ADMIN'],
    ['0000000000201000', 'SYS_PTRACE'],
  ])('%s lack %s', async (effective, missing) => {
    const status = `Name:\tnode\nCapEff:\t${effective}\n`;
    if (missing === undefined) expect(lookAtCapabilities(status)).toBe('NET_ADMIN, SYS_ADMIN, SYS_PTRACE');
    else expect(await fault(() => lookAtCapabilities(status))).toContain(`missing: ${missing} | run as root`);
  });
});

describe('cgroup v2', () => {
  it('is the whole of it, or what the operator named', async () => {
    const part = (): string => cgroup2Mount('90 80 0:29 / /sys/fs/cgroup ro - cgroup2 cgroup rw', () => 4711);
    expect(lookAtCgroup(undefined, () => '/host/cg')).toBe('/host/cg');
    expect(lookAtCgroup('/cg/lab', part)).toBe('/cg/lab, as configured');
    expect(await fault(() => lookAtCgroup(undefined, part))).toMatch(
      /shows only a part of it.* \| mount the host's \/sys\/fs\/cgroup into the pod/,
    );
  });
});

describe('bpffs', () => {
  const HOST = '30 20 0:40 / /sys/fs/bpf rw - bpf bpffs rw';
  const view = (over: Partial<BpffsView> & { mounts?: string; node?: string } = {}): BpffsView => ({
    pinDir: '/sys/fs/bpf/culvert',
    isBpffs: (path) => path === '/sys/fs/bpf',
    deviceOf: (path) => (path === '/sys/fs/bpf' ? '0:40' : path.endsWith('culvert') ? undefined : '0:1'),
    own: mountsOf(over.mounts ?? HOST),
    host: mountsOf(over.node ?? HOST),
    ...over,
  });
  it("is the host's, mounted once", () => {
    expect(lookAtBpffs(view())).toBe("/sys/fs/bpf/culvert is on the host's bpffs");
    expect(lookAtBpffs({ ...view(), host: undefined })).toBe('/sys/fs/bpf/culvert is on a bpffs');
  });
  it.each<[string, BpffsView, RegExp]>([
    ['not one', view({ isBpffs: () => false }), /is not on a bpffs \| mount the host's/],
    [
      "a container's own",
      view({ node: '30 20 0:7 / /sys/fs/bpf rw - bpf bpffs rw' }),
      /of this container: what is pinned there ends with it.* \| mount the host's/,
    ],
    [
      'one over another here',
      view({ mounts: `29 20 0:39 / /sys/fs/bpf rw - bpf bpffs rw\n${HOST}` }),
      /2 bpffs are mounted over each other on \/sys\/fs\/bpf here.* \| unmount/,
    ],
    ['one over another there', view({ node: `29 20 0:39 / /sys/fs/bpf rw - bpf bpffs rw\n${HOST}` }), /2 bpffs .* on the host/],
  ])('is refused when it is %s', async (_, seen, message) => {
    expect(await fault(() => lookAtBpffs(seen))).toMatch(message);
  });
});

describe('procfs', () => {
  const links: Record<string, string> = { '/host/proc/self': '77', '/host/proc/1/ns/net': 'net:[1]' };
  const readlink = (path: string): string => {
    const target = links[path];
    if (target === undefined) throw Object.assign(new Error(path), { code: path.endsWith('net') ? 'EACCES' : 'ENOENT' });
    return target;
  };
  it("is the node's, and its first process may be looked at", async () => {
    const view = { procRoot: '/host/proc', pid: 77, readlink };
    expect(lookAtProcfs(view)).toContain('shows the processes of the node');
    expect(await fault(() => lookAtProcfs({ ...view, pid: 5 }))).toMatch(
      /another pid namespace: this process is 5 here and 77 there \| set hostPID/,
    );
    expect(await fault(() => lookAtProcfs({ ...view, procRoot: '/none' }))).toMatch(/does not know this process \(ENOENT\) \| set hostPID/);
    expect(await fault(() => lookAtProcfs({ ...view, pid: 1, readlink: () => '1' }))).toMatch(
      /the first of its pid namespace.* \| set hostPID/,
    );
    const closed = (path: string): string => (path.endsWith('self') ? '77' : readlink('/x/net'));
    expect(await fault(() => lookAtProcfs({ ...view, readlink: closed }))).toMatch(
      /may not be looked at \(EACCES\) \| add capability SYS_PTRACE/,
    );
  });
});

describe('sysctls', () => {
  const failed = (code: string) => ({ ok: false as const, code, errno: 1, syscall: 'open', message: `${code}: open` });
  it.each([
    ['EROFS', /cannot be written to: EROFS: open \| mount the host's \/proc writable/],
    ['EACCES', /cannot be written to: EACCES: open \| add capability NET_ADMIN/],
  ])('that answer %s', async (code, message) => {
    const kernel = {
      netnsRun: (_: number, [op]: { op: string }[]) => [op?.op === 'sysctl' ? failed(code) : { ok: true as const, value: '0' }],
    };
    expect(await fault(() => lookAtSysctls('/proc', kernel))).toMatch(message);
    expect(await fault(() => lookAtSysctls('/proc', { netnsRun: () => [failed('ENOENT')] }))).toContain('cannot be read');
    expect(lookAtSysctls('/proc', { netnsRun: () => [{ ok: true, value: '0' }] })).toBe('/proc/sys/net can be written to');
  });
});

describe('kernel', () => {
  it('lacks what is indispensable, or only something', async () => {
    const check = { name: 'a', ok: true, required: true, detail: 'ok' };
    const probe = {
      usable: true,
      checks: [check],
      reasons: [] as string[],
      nodeCookie: 1n,
      features: { retval: true, bindSetsockopt: true, sockopsCookie: true },
    };
    const o = { pinDir: '/p', cgroupRoot: '/c', nodeNetns: '/n' };
    expect(lookAtKernel(o, () => probe)).toBe('1 of 1 features');
    const lame = { ...probe, checks: [check, { ...check, ok: false, required: false }], reasons: ['no errno'] };
    expect(lookAtKernel(o, () => lame)).toBe('1 of 2 features; no errno');
    expect(await fault(() => lookAtKernel(o, () => ({ ...lame, usable: false })))).toMatch(/no errno \| Linux 5\.15 or later/);
  });
});

describe('hooks', () => {
  it('have our programs, and maybe others', async () => {
    const attached = new Map(cgroupPrograms.map((name, i) => [CGROUP_PROGRAMS[name], [i + 1]]));
    const kernel = {
      bpfCgroupQuery: (_: number, type: number) => attached.get(type as 10) ?? [],
      bpfGet: (path: string) => cgroupPrograms.findIndex((name) => path === `/pins/links/${name}`) + 1,
      bpfInfo: (fd: number) => ({ kind: 'link' as const, id: fd, name: '', type: 0, progId: fd }),
      closeFd: () => undefined,
    };
    expect(lookAtHooks(directory, '/pins', kernel)).toBe('ours alone');
    attached.get(CGROUP_PROGRAMS.connect4)?.push(99);
    expect(lookAtHooks(directory, '/pins', kernel)).toContain('beside them programs (ids for "bpftool prog show id") connect4: 99');
    attached.set(CGROUP_PROGRAMS.sock_ops, []);
    expect(await fault(() => lookAtHooks(directory, '/pins', kernel))).toMatch(/: sock_ops \| start the agent again/);
  });
});

describe('CNI chain', () => {
  const entry = (runDir: string): string =>
    JSON.stringify({ ...(JSON.parse(kindnet) as { plugins: object[] }), plugins: [{ type: 'ptp' }, { type: 'culvert-cni', runDir }] });
  const view = () => ({
    cniBinDir: join(directory, 'bin'),
    cniConfDir: join(directory, 'net.d'),
    runDir: '/run/c',
    plugin: join(directory, 'built'),
    chained: true,
  });
  beforeEach(() => {
    for (const name of ['bin', 'net.d']) mkdirSync(join(directory, name));
    writeFileSync(join(directory, 'built'), 'program');
  });
  const put = (name: string, text: string, mode = 0o755): void => writeFileSync(join(directory, name), text, { mode });

  it('is asked step by step as a runtime would go', async () => {
    expect(await fault(() => lookAtChain(view()))).toContain('there is no network configuration in');
    put('net.d/20-late.conflist', entry('/run/c'));
    put('net.d/10-kindnet.conflist', kindnet);
    expect(await fault(() => lookAtChain(view()))).toMatch(
      /runtimes take 10-kindnet\.conflist, and culvert-cni is not in it; it is in 20-late\.conflist, which comes later \| "culvert install"/,
    );
    put('net.d/10-kindnet.conflist', entry('/run/other'));
    expect(await fault(() => lookAtChain(view()))).toContain('leads to /run/other, this agent serves /run/c');
    put('net.d/10-kindnet.conflist', entry('/run/c'));
    expect(await fault(() => lookAtChain(view()))).toContain('culvert-cni is missing, or not executable');
    put('bin/culvert-cni', 'older');
    expect(await fault(() => lookAtChain(view()))).toContain('is not the executable of this version');
    put('bin/culvert-cni', 'program');
    put('net.d/00-broken.conflist', '{'); // runtimes skip it
    expect(await lookAtChain(view())).toContain('10-kindnet.conflist has our entry, ');
    expect(await lookAtChain({ ...view(), plugin: undefined })).toContain('is there');
  });
});

describe('API server', () => {
  const answering = (allowed: (resource: string) => boolean) => ({
    create: (_: string, body: KubeObject): Promise<KubeObject> => {
      const { resource } = (body['spec'] as { resourceAttributes: { resource: string } }).resourceAttributes;
      return Promise.resolve({ metadata: { name: '' }, status: { allowed: allowed(resource) } });
    },
  });
  it('grants all, or what is missing is named with what it is for', async () => {
    const permissions = neededPermissions('culvert-system/culvert-node');
    expect(
      await lookAtApiServer(
        answering(() => true),
        permissions,
      ),
    ).toBe('reachable, 9 permissions granted');
    expect(
      await fault(() =>
        lookAtApiServer(
          answering((resource) => resource !== 'daemonsets'),
          permissions,
        ),
      ),
    ).toBe(
      "not allowed: get daemonsets (whether an agent comes after this one) | grant the account of the agent's pod the chart's ClusterRole and Role",
    );
    const away = { create: () => Promise.reject(new CulvertError('KUBERNETES', 'create: ECONNREFUSED')) };
    await expect(lookAtApiServer(away, permissions)).rejects.toThrow('ECONNREFUSED');
  });
});

describe('a running agent', () => {
  it('says what is wrong with tunnel, source and pods', async () => {
    const config = { node: 'n1', tunnel: 'builtin' as const };
    expect(await fault(() => lookAtTunnel({ config, zds: { connections: () => [] } }))).toMatch(
      /no tunnel is connected.* \| look at the log of "culvert ztunnel"/,
    );
    const peer = { pid: 1, uid: 0, gid: 0 };
    expect(lookAtTunnel({ config, zds: { connections: () => [{ id: '1', since: new Date(0), peer }] } })).toContain('1 connected');
    expect(await fault(() => lookAtSource({ source: { kind: 'file', synced: () => false } }))).toContain('file has not said yet');
    expect(lookAtSource({ source: { kind: 'file', synced: () => true } })).toBe('file, synced');
    const world = new World();
    expect(lookAtDriver({ driver: world.driver })).toBe('ebpf');
    world.tunnel = 'none';
    world.reconciler.apply(mesh('ambient', pod('a', '/ns/a')));
    await world.settled('u-a', 'pending');
    const known = { reconciler: world.reconciler, datapathWarnings: { of: () => [] } };
    expect(await fault(() => lookAtPods(known))).toMatch(/^shop\/a: .*no tunnel \| "culvert pods" lists them all/);
    world.reconciler.apply(mesh(undefined, pod('a', '/ns/a')));
    await world.settled('u-a', 'out');
    expect(lookAtPods(known)).toBe('1 pods, 0 enrolled');
    await world.reconciler.close();
  });
});
