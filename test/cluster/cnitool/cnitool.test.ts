/**
 * The whole chain (bridge, host-local, culvert-cni as it is built) run by libcni's own tool against a real agent: ADD, CHECK, STATUS,
 * GC and DEL, in the versions of containerd 2 and of containerd 1.6.
 */
import { execFile } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, symlinkSync, unlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { AgentScene, stop, until } from '../../netns/agent/scene.ts';
import { tool } from '../../support/cluster/tools.ts';
import { settingsOf, tree } from '../../support/netns.ts';

const run = promisify(execFile);
const PLUGIN = new URL('../../../build/culvert-cni', import.meta.url).pathname;

interface Answer {
  code: number;
  stdout: string;
  stderr: string;
}
interface Result {
  cniVersion: string;
  interfaces: { name: string; sandbox?: string }[];
  ips: { address: string }[];
}

describe.each(['1.1.0', '1.0.0'])('cnitool, version %s', (cniVersion) => {
  const network = `cvt-${process.pid}-${cniVersion.replaceAll('.', '')}`;
  const later = cniVersion === '1.1.0';
  let scene: AgentScene;
  let agent: Awaited<ReturnType<AgentScene['startAgent']>>;
  const netnsNames: string[] = [];

  const conflist = (more: Record<string, unknown> = {}): void => {
    const [runDir, stateDir] = [join(scene.dir, 'run'), join(scene.dir, 'state')];
    const ranges = [[{ subnet: '10.78.0.0/24' }], [{ subnet: 'fd78::/112' }]];
    const plugins = [
      { type: 'bridge', bridge: 'cni0', isGateway: true, ipam: { type: 'host-local', dataDir: join(scene.dir, 'ipam'), ranges } },
      { type: 'culvert-cni', runDir, stateDir, ...more },
    ];
    writeFileSync(join(scene.dir, 'net.d/10-net.conflist'), JSON.stringify({ cniVersion, name: network, plugins }));
  };
  const path = (name: string): string => `/var/run/netns/${scene.node.prefix}-${name}`;
  /** In the node's netns. Its cache is at /var/lib/cni, and only there: a directory of the test's own lies over it. */
  const cnitool = async (verb: string, name: string): Promise<Answer> => {
    const script = 'mount --bind "$1" /var/lib && shift && exec "$@"';
    const libcni = ['unshare', '-m', 'sh', '-c', script, 'sh', join(scene.dir, 'lib'), tool('cni/cnitool'), verb, network, path(name)];
    const env = {
      PATH: process.env['PATH'],
      NETCONFPATH: join(scene.dir, 'net.d'),
      CNI_PATH: join(scene.dir, 'bin'),
      CNI_IFNAME: 'eth0',
      CNI_ARGS: `K8S_POD_UID=uid-${name};K8S_POD_NAME=${name};IgnoreUnknown=1;K8S_POD_NAMESPACE=shop`,
    };
    try {
      return { code: 0, ...(await run('nsenter', [`--net=${scene.node.nodeNetns}`, ...libcni], { env })) };
    } catch (error) {
      const { code, stdout, stderr } = error as Answer;
      return { code, stdout, stderr };
    }
  };
  const sandbox = async (name: string): Promise<void> => {
    await run('ip', ['netns', 'add', `${scene.node.prefix}-${name}`]);
    netnsNames.push(name);
    await run('ip', ['-n', `${scene.node.prefix}-${name}`, 'link', 'set', 'lo', 'up']); // runtimes do that themselves
  };
  const removeSandbox = async (name: string): Promise<void> => {
    await run('ip', ['netns', 'del', `${scene.node.prefix}-${name}`]);
    netnsNames.splice(netnsNames.indexOf(name), 1);
  };
  const cached = (): string[] => readdirSync(join(scene.dir, 'lib/cni/results'));
  const attached = (): string[] =>
    readdirSync(join(scene.dir, 'run/attachments')).map(
      (file) => (JSON.parse(readFileSync(join(scene.dir, 'run/attachments', file), 'utf8')) as { podName: string }).podName,
    );
  const ready = (wanted: boolean): Promise<void> =>
    until(
      async () => (await scene.status()).ready === wanted,
      () => scene.log,
    );
  const add = async (name: string): Promise<Result> => {
    const answer = await cnitool('add', name);
    expect(answer, `${answer.stderr}${answer.stdout}\n${scene.log.slice(-2000)}`).toMatchObject({ code: 0 });
    return JSON.parse(answer.stdout) as Result;
  };

  beforeAll(async () => {
    scene = await AgentScene.create('ct');
    for (const name of ['bin', 'net.d', 'lib/cni']) mkdirSync(join(scene.dir, name), { recursive: true });
    symlinkSync(PLUGIN, join(scene.dir, 'bin/culvert-cni'));
    for (const name of ['bridge', 'host-local']) symlinkSync(tool(`cni/${name}`), join(scene.dir, 'bin', name));
    conflist();
    // The source knows pods, as an API server does: neither address nor netns.
    const names = ['a', 'b', 'c', 'plain'];
    const mesh = {
      nodes: ['n1'],
      namespaces: { shop: { labels: { 'istio.io/dataplane-mode': 'ambient' } } },
      pods: names.map((name) => ({
        ...{ name, namespace: 'shop', node: 'n1' },
        ...(name === 'plain' ? { labels: { 'istio.io/dataplane-mode': 'none' } } : {}),
      })),
    };
    const pods = Object.fromEntries(names.map((name) => [`shop/${name}`, { uid: `uid-${name}`, ips: [], netns: path(name) }]));
    writeFileSync(join(scene.dir, 'mesh.yaml'), JSON.stringify(mesh));
    writeFileSync(join(scene.dir, 'mesh.yaml.d/lab.json'), JSON.stringify({ pods }));
    agent = await scene.startAgent();
    scene.startTunnel();
    await ready(true);
  });
  afterAll(async () => {
    for (const name of [...netnsNames]) await removeSandbox(name);
    await scene.close();
  });

  it('add: the result of the plugins before us, and the pods are in the mesh when it is printed', async () => {
    for (const name of ['a', 'b', 'plain']) await sandbox(name);
    const results = [await add('a'), await add('b'), await add('plain')];
    for (const [i, name] of ['a', 'b', 'plain'].entries()) {
      expect(results[i]).toMatchObject({ cniVersion, interfaces: [{ name: 'cni0' }, {}, { name: 'eth0', sandbox: path(name) }] });
      expect(results[i]?.ips).toHaveLength(2);
    }
    const pods = await scene.pods({ a: 'enrolled active', b: 'enrolled active', plain: 'not-enrolled none' });
    expect(pods.map(({ netnsCookie }) => netnsCookie !== '')).toEqual(['a', 'b', 'c', 'plain'].map((name) => 'ab'.includes(name)));
    expect(attached()).toEqual(expect.arrayContaining(['a', 'b', 'plain']));
    expect(settingsOf(`${scene.node.prefix}-a`)).toContain('fwmark 0x111/0xfff lookup 100');
  });

  it('check: nothing wrong; then what is taken away is named, one thing after the other', async () => {
    expect(await cnitool('check', 'a')).toMatchObject({ code: 0 });
    expect(await cnitool('check', 'plain')).toMatchObject({ code: 0 });
    const netnsName = `${scene.node.prefix}-a`;
    const faulty = async (fault: RegExp): Promise<void> => {
      const { code, stderr, stdout } = await cnitool('check', 'a');
      expect(code).not.toBe(0);
      expect(stderr + stdout).toMatch(/check pod shop\/a: /);
      expect(stderr + stdout).toMatch(fault);
      expect(await cnitool('check', 'b')).toMatchObject({ code: 0 });
    };
    const { netnsCookie = '' } = (await scene.pods({ a: 'enrolled active' })).find(({ name }) => name === 'a') ?? {};
    // what the agent would put back by itself at once is taken while it does not look
    await stop(agent, 'SIGKILL');
    await run('ip', ['-n', netnsName, 'rule', 'del', 'pref', '32764']);
    await run('ip', ['-6', '-n', netnsName, 'route', 'flush', 'table', '100']);
    const hanging = await cnitool('check', 'a');
    expect(hanging.stderr + hanging.stdout).toMatch(/culvert agent does not answer.*namespace shop is enrolled/);
    agent = await scene.startAgent();
    await ready(true);
    await scene.pods({ a: 'enrolled active', b: 'enrolled active' });
    expect(await cnitool('check', 'a')).toMatchObject({ code: 0 }); // an agent that starts repairs
    unlinkSync(join(scene.node.bpffs, 'n1/pods', BigInt(netnsCookie).toString(16), 'lookup'));
    await faulty(/its sk_lookup link is not pinned/);
    await run('ip', ['netns', 'exec', netnsName, 'sh', '-c', 'echo 0 > /proc/sys/net/ipv4/tcp_fwmark_accept']);
    await faulty(/tcp_fwmark_accept = 1 is missing/);
    await run('ip', ['-n', netnsName, 'link', 'set', 'eth0', 'down']);
    const down = await cnitool('check', 'a');
    expect(down.code).not.toBe(0);
    await run('ip', ['-n', netnsName, 'link', 'set', 'eth0', 'up']);
    await stop(agent, 'SIGTERM');
    agent = await scene.startAgent();
    await ready(true);
    await scene.pods({ a: 'enrolled active', b: 'enrolled active' });
  });

  it('status: by the policy of our entry', async () => {
    expect(await cnitool('status', 'a')).toMatchObject({ code: 0 });
    conflist({ statusPolicy: 'agent-ready' });
    expect(await cnitool('status', 'a')).toMatchObject({ code: 0 });
    await stop(agent, 'SIGTERM');
    const { code, stderr, stdout } = await cnitool('status', 'a');
    if (later) {
      expect(code).not.toBe(0);
      expect(stderr + stdout).toMatch(/status: no pod can join the mesh now: culvert agent does not answer/);
    } else expect(code).toBe(0); // libcni asks nobody before 1.1.0
    conflist();
    expect(await cnitool('status', 'a')).toMatchObject({ code: 0 });
    agent = await scene.startAgent();
    await ready(true);
  });

  // libcni asks no plugin before 1.1.0
  if (later) {
    it('gc: what libcni has forgotten is let go, what lives in spite of that is kept', async () => {
      await sandbox('c');
      await add('c');
      await scene.pods({ c: 'enrolled active' });
      const live = await scene.node.process('app', path('b'));
      // libcni ends by DEL what is in its cache, and by GC what is not; "b" and "c" are taken out of it
      const forgotten = join(scene.dir, 'forgotten');
      mkdirSync(forgotten);
      for (const file of cached()) {
        const text = readFileSync(join(scene.dir, 'lib/cni/results', file), 'utf8');
        if (/K8S_POD_NAME","[bc]"/.test(text)) renameSync(join(scene.dir, 'lib/cni/results', file), join(forgotten, file));
      }
      expect(cached()).toHaveLength(2);
      expect(await cnitool('gc', 'a')).toMatchObject({ code: 0 });
      await scene.pods({ a: 'pending none', b: 'enrolled active', c: 'pending none' });
      expect(attached()).toEqual(['b']);
      expect(cached()).toEqual([]);
      for (const file of readdirSync(forgotten)) renameSync(join(forgotten, file), join(scene.dir, 'lib/cni/results', file));
      await live.kill();
    });
  }

  it('del: out of the mesh, and again nothing to do; also without the agent', async () => {
    for (const name of ['a', 'b', 'a']) expect(await cnitool('del', name)).toMatchObject({ code: 0 });
    await scene.pods({ a: 'pending none', b: 'pending none' });
    expect(settingsOf(`${scene.node.prefix}-b`)).not.toContain('lookup 100');
    await stop(agent, 'SIGTERM');
    for (const name of [...netnsNames]) expect(await cnitool('del', name)).toMatchObject({ code: 0 });
    expect(cached()).toEqual([]);
  });

  it('leaves nothing behind', () => {
    expect(tree(scene.node.bpffs).filter((name) => name.includes('pods/'))).toEqual([]);
    expect(existsSync('/var/lib/cni/results') ? readdirSync('/var/lib/cni/results').join() : '').not.toContain(network);
  });
});
