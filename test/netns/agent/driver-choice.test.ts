/** Which driver serves a node's pods: taken over from istio-cni, moved by a forced change while they talk, moved back, told apart. */
import { execFile, execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { VerifyResult } from '../../../src/agent/api.ts';
import { createLogger } from '../../../src/base/log.ts';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { captures, readTraces } from '../../../src/redirect/istio-cni/index.ts';
import { isClean } from '../../../src/redirect/istio-cni/traces.ts';
import { seqpacketListen } from '../../../src/sys/seqpacket.ts';
import { Netns } from '../../../src/sys/netns.ts';
import { MAX_PACKET } from '../../../src/zds/messages.ts';
import { ZdsServer } from '../../../src/zds/server.ts';
import { applyIstioRules } from '../../support/istio-rules.ts';
import { settingsOf, tree, type Endpoint, type TestPod } from '../../support/netns.ts';
import { ISTIO_SOURCE, istioHostRule } from '../probes/rules.ts';
import { AgentScene, stop, until } from './scene.ts';

const APP = 8080;
const ENTRY = new URL('../../../src/main.ts', import.meta.url).pathname;
/** CULVERT_TEST_DRIVERS=all: by way of both drivers that program rules */
const FORCED = process.env['CULVERT_TEST_DRIVERS'] === 'all' ? (['iptables', 'nftables'] as const) : (['iptables'] as const);
const FLAGS = ['--grace-cap-ms', '300', '--leave-deadline-ms', '2000'];

describe('redirect drivers of an agent', () => {
  let scene: AgentScene;
  let a: TestPod;
  let b: TestPod;
  let before: string;
  let app: Endpoint;
  let kubelet: Endpoint;
  let outside: Endpoint;
  let agent: Awaited<ReturnType<AgentScene['startAgent']>>;
  const ENROLLED = { a: 'enrolled active', b: 'enrolled active' };

  const traces = (pod: TestPod): ReturnType<typeof readTraces> => {
    using netns = Netns.open(pod.netns);
    return readTraces(netns);
  };
  const nodeHas = (text: string, ...command: string[]): boolean =>
    execFileSync('nsenter', [`--net=${scene.node.nodeNetns}`, ...command], { encoding: 'utf8', stdio: 'pipe' }).includes(text);
  /** What conntrack makes of connections that it did not see begin: "0" leaves them alone. */
  const loose = (pod: TestPod): string =>
    execFileSync('ip', ['netns', 'exec', pod.netnsName, 'cat', '/proc/sys/net/netfilter/nf_conntrack_tcp_loose'], {
      encoding: 'utf8',
    }).trim();
  const startLoads = async (): Promise<void> => {
    await app.call('load', { name: 'out', host: b.ip4, port: APP, pauseMs: 10 });
    await outside.call('load', { name: 'in', host: b.ip6, port: APP, pauseMs: 10 });
    await kubelet.call('load', { name: 'probe', host: b.ip4, port: APP, pauseMs: 10 });
  };
  const stopLoads = async (): Promise<void> => {
    for (const [endpoint, name] of [
      [app, 'out'],
      [outside, 'in'],
      [kubelet, 'probe'],
    ] as const) {
      const { ok, failed } = await endpoint.call('stop', { name });
      expect([name, failed]).toEqual([name, {}]);
      expect(ok, name).toBeGreaterThan(5);
    }
  };
  const echoes = async (...names: string[]): Promise<void> => {
    for (const name of names) expect([name, await app.call('echo', { name, text: 'there' })]).toEqual([name, { ok: true }]);
  };
  const driversOf = async (): Promise<Record<string, string>> =>
    Object.fromEntries((await scene.pods(ENROLLED)).map(({ name, driver }) => [name, driver]));
  const drivers = async (wanted: Record<string, string>): Promise<void> =>
    until(
      async () => JSON.stringify(await driversOf()) === JSON.stringify(wanted),
      () => scene.log.slice(-3000),
    );
  const restart = async (...flags: string[]): Promise<void> => {
    await stop(agent, 'SIGKILL');
    agent = await scene.startAgent([...FLAGS, ...flags]);
  };

  beforeAll(async () => {
    scene = await AgentScene.create('choice');
    a = await scene.pod('a', 41);
    b = await scene.pod('b', 42);
    before = settingsOf(a.netnsName);
    const other = await scene.node.pod('o', 43);
    app = await scene.node.process('app', a.netns);
    outside = await scene.node.process('outside', other.netns);
    kubelet = await scene.node.process('kubelet', scene.node.nodeNetns);
    const server = await scene.node.process('app', b.netns);
    await server.call('listen', { name: 'app-b', host: '::', port: APP });
    // istio-cni has them: rules, the tunnel told, annotated
    const log = createLogger('test', 'silent');
    const istio = new ZdsServer({ listen: (onConnection) => seqpacketListen(join(scene.dir, 'zds.sock'), MAX_PACKET, onConnection), log });
    istio.open();
    scene.startTunnel();
    await until(
      () => istio.connections().length > 0,
      () => 'the tunnel connects',
    );
    const annotations: Record<string, object> = {};
    istioHostRule.iptables(scene.node, b);
    for (const pod of [a, b]) {
      await scene.node.ipIn(
        pod.netnsName,
        `route replace ${ISTIO_SOURCE.v4} via 10.77.0.1`,
        `route replace ${ISTIO_SOURCE.v6} via fd77::1`,
      );
      applyIstioRules(pod, 'iptables-nft');
      using netns = Netns.open(pod.netns);
      await istio.add({
        uid: scene.uidOf(pod),
        info: { name: pod.name, namespace: 'shop', serviceAccount: 'default' },
        netnsFd: netns.fd,
      });
      annotations[scene.uidOf(pod)] = { 'ambient.istio.io/redirection': 'enabled' };
    }
    mkdirSync(join(scene.dir, 'mesh.yaml.d'), { recursive: true });
    writeFileSync(join(scene.dir, 'mesh.yaml.d/annotations-n1.json'), JSON.stringify(annotations));
    scene.label('ambient');
    expect(await app.call('open', { name: 'of Istio', host: b.ip4, port: APP })).toMatchObject({ greeting: { by: 'tunnel:15001' } });
    istio.close();
  });
  afterAll(async () => {
    await scene.close();
    expect(existsSync(scene.dir)).toBe(false);
  });

  it('takes pods over from istio-cni; the annotation stays, no connection fails, open ones go on', async () => {
    expect(nodeHas('ISTIO_POSTRT', 'iptables-save')).toBe(true);
    await startLoads();
    agent = await scene.startAgent(FLAGS);
    await drivers({ a: 'ebpf', b: 'ebpf' });
    await until(
      () => !captures(traces(a)) && !captures(traces(b)),
      () => scene.log.slice(-3000),
    );
    await stopLoads();
    expect(loose(a), 'its rules may come back').toBe('0');
    expect(scene.annotations()[scene.uidOf(a)]).toEqual({ 'ambient.istio.io/redirection': 'enabled' });
    expect(scene.log).not.toContain('annotatePending');
    await echoes('of Istio');
    expect(await app.call('open', { name: 'of ebpf', host: b.ip4, port: APP })).toMatchObject({ greeting: { by: 'tunnel:15001' } });
    await app.call('shut', { name: 'of Istio' });
    for (const pod of [a, b])
      await until(
        () => isClean(traces(pod)),
        () => scene.log.slice(-3000),
      );
    await until(
      () => !nodeHas('ISTIO_POSTRT', 'iptables-save') && !nodeHas('istio-inpod', 'ipset', 'list', '-name'),
      () => scene.log.slice(-3000),
    );
    expect((await scene.status()).driver).toEqual({ name: 'ebpf', forced: false, reasons: [] });
  });

  it.each(FORCED)('moves them to %s when that is forced, and takes ebpf off the node', async (forced) => {
    await startLoads();
    await restart('--redirect-driver', forced);
    await drivers({ a: forced, b: forced });
    await stopLoads();
    await echoes('of ebpf');
    expect((await scene.status()).driver).toMatchObject({ name: forced, forced: true });
    for (const { pod, ok, outbound, inbound } of await scene.ask<VerifyResult[]>({ op: 'verify' })) {
      expect([pod, ok, outbound.detail, inbound.detail]).toEqual([pod, true, outbound.detail, inbound.detail]);
      expect(outbound.detail).toContain('accepted by the tunnel on 15001');
      expect(inbound.detail).toContain('accepted by the tunnel on 15006');
    }
    await until(
      () => tree(scene.node.bpffs).filter((name) => !name.endsWith('.debug')).length === 0,
      () => tree(scene.node.bpffs).join(),
    );
    expect(await app.call('connect', { host: b.ip4, port: APP })).toMatchObject({ greeting: { by: 'tunnel:15001' } });
  });

  it('moves them back', async () => {
    await startLoads();
    await restart();
    await drivers({ a: 'ebpf', b: 'ebpf' });
    await stopLoads();
    await echoes('of ebpf');
  });

  it('moves one by its annotation alone, and back when that goes', async () => {
    await startLoads();
    scene.annotate(b, { 'culvert.dev/redirect-driver': 'nftables' });
    await drivers({ a: 'ebpf', b: 'nftables' });
    await echoes('of ebpf');
    scene.annotate(b, {});
    await drivers({ a: 'ebpf', b: 'ebpf' });
    await stopLoads();
    await echoes('of ebpf');
  });

  it('takes off everything when it leaves', async () => {
    scene.label(undefined);
    await scene.pods({ a: 'not-enrolled none', b: 'not-enrolled none' });
    expect(settingsOf(a.netnsName)).toBe(before);
    for (const pod of [a, b]) expect([isClean(traces(pod)), loose(pod)]).toEqual([true, '1']);
  });

  it('is given up with "uninstall --all --hand-over": pods that istio-cni has again stay in the mesh, without a connection failing', async () => {
    scene.label('ambient');
    await drivers({ a: 'ebpf', b: 'ebpf' });
    expect(loose(a), 'as the kernel has it').toBe('1');
    await restart('--istio-rules', 'keep');
    await drivers({ a: 'ebpf', b: 'ebpf' });
    await until(
      () => loose(a) === '0' && loose(b) === '0',
      () => scene.log.slice(-3000),
    );
    await stop(agent, 'SIGKILL');
    for (const pod of [a, b]) applyIstioRules(pod, 'iptables-nft');
    expect(await app.call('open', { name: 'of ours', host: b.ip4, port: APP })).toMatchObject({ greeting: { by: 'tunnel:15001' } });
    await startLoads();
    const path = (name: string): string => join(scene.dir, name);
    const places = ['--run-dir', path('run'), '--state-dir', path('state'), '--zds-socket', path('zds.sock')];
    const { stdout, stderr } = await promisify(execFile)(process.execPath, [
      ...[ENTRY, 'uninstall', '--all', '--hand-over', '-o', 'json', ...places, '--pin-dir', join(scene.node.bpffs, 'n1')],
      ...['--node-netns', scene.node.nodeNetns, '--cni-bin-dir', path('bin'), '--cni-conf-dir', path('net.d')],
    ]);
    expect(stderr).toBe('');
    const said = JSON.parse(stdout) as { pods: string[] };
    expect({ ...said, pods: said.pods.toSorted() }).toEqual({ removedFrom: [], pods: ['shop/a', 'shop/b'], pins: true });
    await stopLoads();
    await echoes('of ours');
    expect(await app.call('connect', { host: b.ip4, port: APP })).toMatchObject({ greeting: { by: 'tunnel:15001' } });
    for (const pod of [a, b]) expect(captures(traces(pod))).toBe(true);
    expect(settingsOf(a.netnsName)).toMatch(/32764:.*fwmark 0x111\/0xfff.*lookup 100/);
    expect(settingsOf(a.netnsName)).not.toMatch(/prohibit|lookup 101/);
    expect(existsSync(path('zds.sock')), 'an heir may have it').toBe(true);
    expect(tree(scene.node.bpffs).filter((name) => !name.endsWith('.debug'))).toEqual([]);
  });
});
