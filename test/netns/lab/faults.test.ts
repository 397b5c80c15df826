/** Bad input and absent parts, on a real lab: each is answered as designed, and nothing is lost. */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { PodStatus } from '../../../src/agent/api.ts';
import { addNetwork, checkNetwork, collectGarbage, delNetwork, PluginFailed } from '../../../src/lab/chain/runtime.ts';
import { attempt } from '../../../src/lab/command.ts';
import { startDaemon } from '../../../src/lab/daemons.ts';
import { Scene } from '../../../src/lab/demo/scene.ts';
import { leftovers, takeDown } from '../../../src/lab/down.ts';
import { labelInLab } from '../../../src/lab/label.ts';
import { createNetns, inNetns, removeNetns } from '../../../src/lab/network/netns.ts';
import { LabPaths } from '../../../src/lab/paths.ts';
import { chainOf, deletePod, newSandbox, startPod, readSandbox } from '../../../src/lab/pods.ts';
import { podStatuses, settle } from '../../../src/lab/settled.ts';
import { readState, setPod } from '../../../src/lab/state.ts';
import { defaultTopology, parseTopology, podKey, readTopology } from '../../../src/lab/topology.ts';
import { until } from '../../../src/lab/until.ts';
import { bringUp } from '../../../src/lab/up.ts';

const MODE = 'istio.io/dataplane-mode';
const lab = new LabPaths(`cvt-lab-faults-${String(process.pid)}`);
const topology = parseTopology(defaultTopology, 'default topology');
const inShop = (pod: PodStatus): boolean => pod.namespace === 'shop';
let scene: Scene;

beforeAll(async () => {
  await bringUp(lab, defaultTopology, topology);
  scene = await Scene.set(lab);
});

afterAll(async () => {
  scene.close();
  await takeDown(lab);
  expect(leftovers(lab)).toEqual([]);
});

async function works(): Promise<void> {
  expect((await scene.http(scene.client, scene.ip('shop/web-2'))).seen.hostname).toBe('web-2');
}

/** The agents' and the tunnels' logs, from now on. */
function logs(node = 'node1'): { agent: () => string; tunnel: () => string } {
  const { agentLog, tunnelLog } = lab.node(node);
  const from = (path: string): (() => string) => {
    const start = readFileSync(path, 'utf8').length;
    return () => readFileSync(path, 'utf8').slice(start);
  };
  return { agent: from(agentLog), tunnel: from(tunnelLog) };
}

describe('mesh file', () => {
  test('malformed YAML is reported with its place, the last good state stays', async () => {
    const good = readFileSync(lab.mesh, 'utf8');
    const log = logs();
    writeFileSync(lab.mesh, good.replace('namespaces:', 'namespaces: ['));
    try {
      for (const said of [log.agent, log.tunnel])
        await until('the fault in the log', 30_000, () => (/mesh\.yaml.*line \d+/.test(said()) ? true : undefined));
      expect((await podStatuses(lab)).filter(inShop).every((pod) => pod.state === 'enrolled')).toBe(true);
      await works();
    } finally {
      writeFileSync(lab.mesh, good);
    }
    await settle(lab, inShop);
  });

  test('an unknown label value enrols nobody, and "pods" says so', async () => {
    labelInLab(lab, 'namespace', 'shop', [{ key: MODE, value: 'ambeint' }]);
    const pods = await settle(lab, () => false);
    for (const pod of pods.filter(inShop)) expect(pod.reason).toMatch(/ambeint/);
    await works();
    labelInLab(lab, 'namespace', 'shop', [{ key: MODE, value: 'ambient' }]);
    await settle(lab, inShop);
  });

  test('two pods with one address are refused by name, the last good state stays', async () => {
    const log = logs();
    const old = readState(lab).pods['legacy/old'];
    if (old === undefined) throw new Error('legacy/old is not there');
    setPod(lab, 'legacy/old', { ...old, ips: [scene.ip('shop/web-1')] });
    try {
      await until('the fault in the log', 30_000, () => (log.agent().includes(`${scene.ip('shop/web-1')} belongs to`) ? true : undefined));
      await works();
      expect((await podStatuses(lab)).find((pod) => pod.name === 'web-1')?.state).toBe('enrolled');
    } finally {
      setPod(lab, 'legacy/old', old);
    }
    await settle(lab, inShop);
  });
});

describe('chain', () => {
  const stranger = { ...topology.pods[0], namespace: 'shop', name: 'stranger', node: 'node1' } as (typeof topology.pods)[number];
  const plugin = async (command: string, stdin: string): Promise<{ code: number; stdout: string }> =>
    attempt(inNetns(lab.node('node1').netns, [join(lab.bin, 'culvert-cni')]), {
      input: stdin,
      env: {
        PATH: process.env['PATH'] ?? '',
        CNI_COMMAND: command,
        CNI_CONTAINERID: 'c0ffee',
        CNI_NETNS: '/none',
        CNI_IFNAME: 'eth0',
        CNI_PATH: lab.bin,
        CNI_ARGS: 'K8S_POD_NAMESPACE=shop;K8S_POD_NAME=x',
      },
    });

  test('truncated stdin is code 6; DEL succeeds with it all the same', async () => {
    const stdin = JSON.stringify({ cniVersion: '1.0.0', name: 'x', prevResult: { ips: [] } }).slice(0, -5);
    const added = await plugin('ADD', stdin);
    expect(added.code).toBe(1);
    expect(JSON.parse(added.stdout)).toMatchObject({ code: 6, msg: expect.stringMatching(/decode stdin/) as string });
    expect(await plugin('DEL', stdin)).toMatchObject({ code: 0, stdout: '' });
    expect((await plugin('VERSION', '')).code).toBe(0);
  });

  test('a pod that the mesh file does not know is refused by the agent, by name, to be tried again', async () => {
    const chain = chainOf(lab, 'node1');
    const netns = lab.podNetns('shop', 'stranger');
    await createNetns(netns);
    const sandbox = newSandbox(stranger, 'uid-stranger', netns);
    try {
      const error: unknown = await addNetwork(chain, sandbox).catch((reason: unknown) => reason);
      expect(error).toMatchObject({ plugin: 'culvert-cni', message: expect.stringMatching(/shop\/stranger/) as string });
      expect((error as PluginFailed).cniCode).toBe(11); // to be tried again: the source may be slower than the runtime
    } finally {
      await delNetwork(chain, sandbox);
      await removeNetns(netns);
    }
    await works();
  });

  test('CHECK goes through the chain; late DELs of an older sandbox and GC leave the pod as it is', async () => {
    const chain = chainOf(lab, 'node2');
    const sandbox = readSandbox(lab, { namespace: 'shop', name: 'web-2', node: 'node2' });
    if (sandbox === undefined) throw new Error('shop/web-2 has no sandbox');
    await checkNetwork(chain, sandbox);
    // as containerd does some seconds after the sandbox is gone: no netns, no prevResult; and once for a container of long ago
    const ours = { ...chain.conflist, cniVersion: '1.1.0', plugins: chain.conflist.plugins.filter(({ type }) => type === 'culvert-cni') };
    for (let n = 0; n < 2; n++) await delNetwork({ ...chain, conflist: ours }, { ...sandbox, containerId: 'f'.repeat(64), netns: '' });
    await collectGarbage({ ...chain, conflist: ours }, []); // processes run in it
    await checkNetwork(chain, sandbox);
    await expect(checkNetwork(chain, { ...sandbox, netns: '/var/run/netns/none' })).rejects.toBeInstanceOf(PluginFailed);
    await works();
  });

  test('DEL and ADD: a pod goes completely and comes again', async () => {
    const pod = topology.pods.find((candidate) => podKey(candidate) === 'shop/web-2');
    if (pod === undefined) throw new Error('shop/web-2 is not in the topology');
    const before = readState(lab).pods['shop/web-2'];
    await deletePod(lab, pod);
    await until('the agent to forget it', 30_000, async () =>
      (await podStatuses(lab)).some((known) => known.uid === before?.uid) ? undefined : true,
    );
    const leases = readdirSync(join(lab.node('node2').cniDir, 'host-local', 'culvert-lab'));
    for (const ip of before?.ips ?? []) expect(leases).not.toContain(ip);
    const { document: maps } = await scene.culvert<{ node: string; map: string; rows: unknown[] }[]>(['maps', '--node', 'node2']);
    for (const name of ['pods', 'own', 'identity', 'pod_by_addr']) expect(maps.find(({ map }) => map === name)?.rows).toEqual([]);
    await startPod(lab, readTopology(lab.mesh).topology, pod);
    await settle(lab, inShop);
    expect(readState(lab).pods['shop/web-2']?.uid).not.toBe(before?.uid);
    await works();
  });
});

describe('agent down', () => {
  const pods = topology.pods.map((pod) => ({ ...pod, node: 'node2' }));
  const again = async (key: string): Promise<void> => {
    const pod = pods.find((candidate) => podKey(candidate) === key);
    if (pod === undefined) throw new Error(`${key} is not in the topology`);
    await deletePod(lab, pod);
    await startPod(lab, topology, pod, { retry: false });
  };

  beforeAll(async () => {
    await scene.kill('node2', 'agent');
  });

  test('maps and pods answer from the pins; what needs the agent ends with 3', async () => {
    const maps = await scene.culvert<{ map: string; rows: { pod: string }[] }[]>(['maps', 'pods', '--node', 'node2']);
    expect(maps).toMatchObject({ code: 0, document: [{ map: 'pods', rows: [{ pod: 'shop/web-2', state: 'active', stale: false }] }] });
    const known = await scene.culvert<PodStatus[]>(['pods', 'shop/web-2']);
    expect(known).toMatchObject({
      code: 0,
      document: [{ namespace: 'shop', name: 'web-2', node: 'node2', datapath: 'active', state: 'enrolled' }],
    });
    const status = await scene.culvert<{ node: string }[]>(['status']);
    expect(status.code).toBe(3);
    expect(status.document.map(({ node }) => node)).toEqual(['node1']);
    await expect(scene.culvert(['status', '--node', 'node2'])).rejects.toThrow(/exit code 3: .*nobody listens/);
    await works();
  });

  test('a pod of a namespace outside the mesh starts all the same', async () => {
    scene.stranger.close();
    await again('legacy/old');
    expect((await scene.http(scene.client, scene.ip('legacy/old'))).seen.hostname).toBe('old');
  });

  test('a pod of an enrolled namespace does not start unprotected; it does when the agent is back', async () => {
    const pod = pods.find((candidate) => podKey(candidate) === 'shop/web-2');
    const error: unknown = await again('shop/web-2').catch((reason: unknown) => reason);
    expect(error).toMatchObject({
      plugin: 'culvert-cni',
      cniCode: 100,
      message: expect.stringMatching(/shop\/web-2.*namespace shop is enrolled/) as string,
    });
    await startDaemon(lab, 'node2', 'agent');
    if (pod !== undefined) await startPod(lab, topology, pod);
    await settle(lab, inShop);
    await works();
  });
});

test('a lab that is up is not built over; one that is half dead is', async () => {
  await expect(bringUp(lab, defaultTopology, topology)).rejects.toThrow(`up already; "culvert lab down --name ${lab.name}"`);
  for (const node of topology.nodes) {
    await scene.kill(node, 'agent');
  }
  const said: string[] = [];
  await bringUp(lab, defaultTopology, topology, { progress: (line) => said.push(line) });
  expect(said[0]).toMatch(/removed what was left/);
  expect((await podStatuses(lab)).filter(inShop).map(({ state }) => state)).toEqual(['enrolled', 'enrolled', 'enrolled']);
});
