/** Pods that istio-cni redirected, taken over while they talk, and handed back: with a real tunnel, for each kind of its rules. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createLogger } from '../../../src/base/log.ts';
import type { RedirectDriver } from '../../../src/redirect/driver.ts';
import { createEbpfDriver } from '../../../src/redirect/ebpf/index.ts';
import { captures, IstioRules, readTraces } from '../../../src/redirect/istio-cni/index.ts';
import { isClean } from '../../../src/redirect/istio-cni/traces.ts';
import { translatedConnections } from '../../../src/redirect/istio-cni/translated.ts';
import { SeveralDrivers } from '../../../src/redirect/several.ts';
import { bpfObject } from '../../../src/sys/native.ts';
import { Netns } from '../../../src/sys/netns.ts';
import { expectNothingLeft } from '../../support/bpf-leftovers.ts';
import { applyIstioRules, ISTIO_VARIANTS } from '../../support/istio-rules.ts';
import { settingsOf, type Endpoint, type TestNode } from '../../support/netns.ts';
import { eventually, TunnelScene, type Pod } from '../tunnel/scene.ts';

const APP = 8080;
/** The third kind is in agent/driver-choice.test.ts; CULVERT_TEST_DRIVERS=all: all of them here. */
const VARIANTS = ISTIO_VARIANTS.filter((variant) => process.env['CULVERT_TEST_DRIVERS'] === 'all' || variant !== 'iptables-nft');
const log = createLogger('test', process.env['CULVERT_TEST_LOG'] ?? 'silent');

let scene: TunnelScene;
let several: SeveralDrivers;
let ebpf: RedirectDriver;
let outside: Endpoint;
let tunnelPid = 0;
let nodeDir = '';

function driversOf(node: TestNode): SeveralDrivers {
  nodeDir = node.dir;
  ebpf = createEbpfDriver({
    object: bpfObject(),
    pinDir: `${node.bpffs}/agent`,
    cgroupRoot: node.cgroupRoot,
    nodeNetns: node.nodeNetns,
    instance: 0x15710n,
    version: 'test',
    maxPods: 110,
    log,
  });
  return (several = over(false));
}

/** @param keep Istio's rules, as an agent that is about to hand the node back */
function over(keep: boolean): SeveralDrivers {
  return new SeveralDrivers({
    chosen: ebpf,
    forced: false,
    reasons: [],
    held: [],
    open: () => Promise.reject(new Error('no other is asked for')),
    retire: () => Promise.resolve(),
    tunnels: () => [tunnelPid],
    istio: new IstioRules({ keep, deadlineMs: 30_000, lockFile: `${nodeDir}/xtables.lock`, pollMs: 20, log }),
    log,
  });
}

/** The tunnel is told of a pod, as istio-cni and we do it. */
async function tell(pod: Pod): Promise<void> {
  const info = { name: pod.name, namespace: 'shop', serviceAccount: pod.serviceAccount };
  await scene.servers.get('node1')!.add({ uid: `uid-${pod.name}`, info, netnsFd: pod.netnsFd });
}

const netnsOf = (pod: Pod): Netns => Netns.adopt(pod.netnsFd, pod.name);

beforeAll(async () => {
  scene = await TunnelScene.create(driversOf);
  tunnelPid = (await scene.tunnel('node1')).pid ?? 0;
  outside = await scene.node.process('outside', (await scene.pod('outside', 'node1')).netns);
});
afterAll(async () => {
  await scene.close();
  await several.settled();
  await expectNothingLeft(scene.node, { prog: [], map: [] });
});

describe.each(VARIANTS)('rules of %s', (variant) => {
  let client: Pod;
  let server: Pod;
  let app: Endpoint;
  let peer: Endpoint;
  let kubelet: Endpoint;
  const loads: [Endpoint, string][] = [];

  beforeAll(async () => {
    several = over(false);
    client = await scene.pod(`client-${variant}`, 'node1');
    server = await scene.pod(`server-${variant}`, 'node1');
    for (const pod of [client, server]) {
      applyIstioRules(pod, variant);
      await tell(pod);
      pod.enrolled = true;
    }
    scene.writeMesh();
    await eventually('the tunnel knows that they are in the mesh', async () =>
      (await scene.dump('node1')).workloads.some((w) => {
        const { name, protocol } = w as { name: string; protocol: string };
        return name === server.name && protocol === 'HBONE';
      }),
    );
    app = await scene.node.process(`app-${variant}`, client.netns);
    peer = await scene.node.process(`app-${variant}`, server.netns);
    kubelet = await scene.node.process('kubelet', scene.node.nodeNetns);
    await peer.call('listen', { name: 'server', host: '::', port: APP });
  });

  const loaded = async (endpoint: Endpoint, name: string, host: string): Promise<void> => {
    loads.push([endpoint, name]);
    await endpoint.call('load', { name, host, port: APP, pauseMs: 2, timeoutMs: 10_000 });
  };
  const startLoads = async (): Promise<void> => {
    await loaded(app, 'out-v4', server.ip4);
    await loaded(app, 'out-v6', server.ip6);
    await loaded(outside, `in-${variant}`, server.ip4);
    await loaded(kubelet, `probe-${variant}`, server.ip6);
  };
  /** Every fresh connection got through, a good number of each. */
  const stopLoads = async (): Promise<void> => {
    for (const [endpoint, name] of loads.splice(0)) {
      const { ok, failed } = await endpoint.call('stop', { name });
      expect([name, failed]).toEqual([name, {}]);
      expect(ok, name).toBeGreaterThan(5);
    }
  };
  const echoes = async (name: string): Promise<void> => {
    expect(await app.call('echo', { name, text: 'still there' })).toEqual({ ok: true });
    expect(await outside.call('echo', { name: `${name}-${variant}`, text: 'still there' })).toEqual({ ok: true });
  };
  const open = async (name: string): Promise<void> => {
    expect(await app.call('open', { name, host: server.ip4, port: APP })).toMatchObject({ ok: true, greeting: { by: 'server' } });
    expect(await outside.call('open', { name: `${name}-${variant}`, host: server.ip4, port: APP })).toMatchObject({ ok: true });
  };

  it('are taken over: no connection fails, those that are open go on', async () => {
    await open('old');
    expect(captures(readTraces(netnsOf(client)))).toBe(true);
    expect(translatedConnections(netnsOf(client))).toBeGreaterThan(0);
    await startLoads();
    for (const pod of [client, server]) {
      const entry = await several.prepare(scene.targetOf(pod));
      expect(entry).toMatchObject({ state: 'prepared', foreign: true });
      pod.cookie = entry.cookie;
      await tell(pod);
      several.adoptListeners(pod.cookie, tunnelPid);
      expect(captures(readTraces(netnsOf(pod)))).toBe(true); // until ours is active
      await several.activate(pod.cookie);
      expect(captures(readTraces(netnsOf(pod)))).toBe(false);
    }
    await echoes('old');
    await open('new');
    await eventually('ours captures', () => several.counters(server.cookie).inboundRedirected > 20);
    await stopLoads();
    expect(several.counters(client.cookie).outboundRedirected).toBeGreaterThan(20);
    await echoes('old');
  });

  it('are gone once the last connection that they translate has ended', async () => {
    expect(isClean(readTraces(netnsOf(client)))).toBe(false);
    await app.call('shut', { name: 'old' });
    await outside.call('shut', { name: `old-${variant}` });
    for (const pod of [client, server]) await eventually('nothing of Istio is left', () => isClean(readTraces(netnsOf(pod))));
    await echoes('new');
    expect(settingsOf(client.netnsName)).toMatch(/32764:.*fwmark 0x111\/0xfff.*lookup 100/);
  });

  it('are given the pods back: ours goes without a connection failing, those that are open go on', async () => {
    several = over(true); // an agent that was started again, by its setting
    for (const pod of [client, server]) await several.reconcile(scene.targetOf(pod));
    await several.recheckPods();
    for (const pod of [client, server]) expect(several.warnings(pod.cookie, pod.netnsFd)).toEqual([]);
    expect(settingsOf(client.netnsName)).toContain('lookup 101');
    several = over(false); // who thinks better of it
    for (const pod of [client, server]) await several.reconcile(scene.targetOf(pod));
    expect(settingsOf(client.netnsName)).not.toContain('lookup 101');
    several = over(true);
    for (const pod of [client, server]) await several.reconcile(scene.targetOf(pod));
    // Before the rules: also a handshake that is under way while they come is one that they leave alone.
    await startLoads();
    for (const pod of [client, server]) applyIstioRules(pod, variant);
    await echoes('new');
    for (const pod of [client, server]) {
      await several.remove(pod.cookie, pod.netnsFd, 0);
      pod.cookie = 0n;
    }
    await echoes('new');
    await open('newest');
    await eventually('Istio captures', () => translatedConnections(netnsOf(server)) > 0);
    await stopLoads();
    await echoes('new');
    await echoes('newest');
    expect(several.snapshot()).toEqual([]);
    expect(settingsOf(client.netnsName)).toMatch(/32764:.*fwmark 0x111\/0xfff.*lookup 100/);
    expect(settingsOf(client.netnsName)).not.toMatch(/prohibit|lookup 101/);
  });
});
