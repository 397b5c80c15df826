import { closeSync, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { EnrolmentWriter } from '../../../src/agent/enrolment-file.ts';
import { instanceId } from '../../../src/agent/instance.ts';
import { ManualRedirect } from '../../../src/agent/redirect.ts';
import { TrustedTunnels } from '../../../src/agent/tunnels.ts';
import { MODE_LABEL } from '../../../src/enrol/policy.ts';
import type { MeshSnapshot } from '../../../src/sources/source.ts';
import { CgroupTree } from '../../../src/sys/cgroup.ts';
import { FakeDriver } from '../../support/fake-driver.ts';

const log = pino({ level: 'silent' });
let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'cvt-agent-'));
});
afterEach(() => {
  rmSync(directory, { recursive: true });
});

describe('instance id', () => {
  it('is made once', () => {
    const state = join(directory, 'state');
    const id = instanceId(state);
    expect(id).toBeGreaterThan(0n);
    expect(instanceId(state)).toBe(id);
    expect(instanceId(join(directory, 'other'))).not.toBe(id);
  });
  it('is never replaced when its file is damaged', () => {
    writeFileSync(join(directory, 'instance'), 'x');
    expect(() => instanceId(directory)).toThrow('does not hold 16 hexadecimal digits');
  });
});

describe('enrolment snapshot', () => {
  const mesh = (mode: string): MeshSnapshot => ({
    trustDomain: 't',
    pods: new Map(),
    services: new Map(),
    namespaces: new Map(['shop', 'kube-system'].map((name) => [name, { name, labels: { [MODE_LABEL]: mode }, annotations: {} }])),
  });
  it('is written when what it says changes', async () => {
    const path = join(directory, 'enrolment.json');
    const ownPods = [{ namespace: 'culvert', namePrefix: 'culvert-agent-' }];
    const writer = new EnrolmentWriter({ path, node: 'n', excludedNamespaces: ['kube-system'], ownPods, log });
    await writer.update(mesh('ambient'));
    const first = readFileSync(path, 'utf8');
    expect(JSON.parse(first)).toMatchObject({
      version: 1,
      node: 'n',
      excludedNamespaces: ['kube-system'],
      ownPods,
      namespaces: { shop: { enrolled: true }, 'kube-system': { enrolled: false } },
    });
    await writer.update(mesh('ambient'));
    expect(readFileSync(path, 'utf8')).toBe(first);
    await writer.update(mesh('none'));
    expect(JSON.parse(readFileSync(path, 'utf8'))).toMatchObject({ namespaces: { shop: { enrolled: false } } });
  });
});

describe('trusted tunnels', () => {
  const process = (pid: number, started: number, cgroup = '0::/kube/tunnel'): void => {
    mkdirSync(join(directory, String(pid)), { recursive: true });
    writeFileSync(join(directory, String(pid), 'cgroup'), `4:memory:/x\n${cgroup}\n`);
    writeFileSync(join(directory, String(pid), 'stat'), `${pid} (a) b) S ${Array(18).fill(0).join(' ')} ${started} 0\n`);
  };
  const peer = (pid: number): { pid: number; uid: number; gid: number } => ({ pid, uid: 0, gid: 0 });

  it('stay trusted while any of their processes lives', () => {
    const driver = new FakeDriver();
    const tunnels = new TrustedTunnels({
      driver,
      log,
      proc: directory,
      cgroups: new CgroupTree('/sys/fs/cgroup/unified'),
      cgroupId: (path) => (path === '/sys/fs/cgroup/unified/kube/tunnel' ? 7n : 0n),
    });
    process(10, 100);
    process(11, 200);
    tunnels.trust(peer(10));
    tunnels.trust(peer(11));
    tunnels.sweep();
    expect([...driver.trusted]).toEqual([7n]);
    rmSync(join(directory, '10'), { recursive: true });
    tunnels.sweep();
    expect([...driver.trusted]).toEqual([7n]);
    process(11, 300); // the pid is another process by now
    tunnels.sweep();
    expect([...driver.trusted]).toEqual([]);
    // nobody can be told by the root, and a process that is gone by nothing
    process(12, 1, '0::/');
    tunnels.trust(peer(12));
    tunnels.trust(peer(13));
    expect(driver.trusted.size).toBe(0);
  });

  it('that ended while no agent ran are trusted no longer, those that drain are', () => {
    const driver = new FakeDriver();
    for (const id of [7n, 8n, 9n]) driver.trustTunnel(id);
    process(10, 100);
    process(11, 200, '0::/kube/draining');
    const ids: Record<string, bigint> = { '/cg/kube/tunnel': 7n, '/cg/kube/draining': 8n };
    const tunnels = new TrustedTunnels({
      driver,
      log,
      proc: directory,
      cgroups: new CgroupTree('/cg'),
      cgroupId: (path) => ids[path] ?? 0n,
    });
    tunnels.trust(peer(10));
    tunnels.sweep();
    expect([...driver.trusted]).toEqual([7n, 8n]);
    rmSync(join(directory, '11'), { recursive: true });
    tunnels.sweep();
    expect([...driver.trusted]).toEqual([7n]);
  });
});

describe('redirect by hand', () => {
  it('goes on and off, twice as once, and leaves pods alone', async () => {
    const driver = new FakeDriver();
    const [mine, pods] = [openSync('/dev/null', 'r'), openSync('/dev/null', 'r')];
    const manual = new ManualRedirect({
      driver,
      cookieOf: (fd) => (fd === mine ? 5n : 6n),
      listens: () => true,
      processes: () => [42],
      held: () => new Set(),
    });
    expect(manual.show(mine)).toMatchObject({ netnsCookie: '5', datapath: 'none' });
    expect(await manual.on(mine, { dns: false })).toMatchObject({ netnsCookie: '5', datapath: 'active' });
    expect(driver.kernel.get(5n)).toMatchObject({ uid: 'redirect:5', flags: { dns: false, ingressMode: false, markOnly: true } });
    await manual.on(mine, {});
    expect(driver.calls.filter((call) => call.startsWith('adopt'))).toHaveLength(2);
    expect(await manual.off(mine)).toMatchObject({ datapath: 'none' });
    expect(await manual.off(mine)).toMatchObject({ datapath: 'none' });
    await manual.on(mine, {});
    await manual.prune(); // nobody holds it
    expect(manual.show(mine)).toMatchObject({ datapath: 'none' });
    await driver.prepare({
      uid: 'u',
      namespace: 'shop',
      name: 'web',
      netnsFd: pods,
      netnsCookie: 6n,
      netnsPath: '',
      flags: { dns: true, ingressMode: false, markOnly: false },
    });
    await expect(manual.off(pods)).rejects.toMatchObject({ code: 'NETNS_TAKEN' });
    await expect(manual.on(pods, {})).rejects.toThrow('belongs to pod shop/web');
    await manual.prune();
    expect(driver.kernel.has(6n)).toBe(true);
    for (const fd of [mine, pods]) closeSync(fd);
    await expect(manual.on(undefined, {})).rejects.toMatchObject({ code: 'USAGE' });
  });
});
