/**
 * A large mesh and many tunnels. A run of the suite is content with a small one; CULVERT_TEST_PODS=10000 CULVERT_TEST_SERVICES=1000
 * CULVERT_TEST_TUNNELS=200 CULVERT_TEST_SECONDS=30 gives the figures of the documentation. What is printed is measured, what is
 * asserted is counted.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { startApiServer, type ApiServer } from '../../support/apiserver.ts';
import { listen, type Listener } from '../../support/control-plane/listener.ts';
import { installControl, NAMESPACE, startControl, type ControlProcess } from '../../support/control-process.ts';
import { Component } from '../../support/kubernetes/component.ts';
import { until } from '../../support/kubernetes/until.ts';
import { createNode, mountRoots, type TestNode } from '../../support/node.ts';
import { createScale, type ScalePlan } from '../../support/scale.ts';

const size = (name: string, usual: number): number => Number(process.env[`CULVERT_TEST_${name}`] ?? usual);
const PODS = size('PODS', 400);
const SERVICES = size('SERVICES', 40);
const TUNNELS = size('TUNNELS', 20);
const CHANGES_PER_SECOND = 50;
const SECONDS = size('SECONDS', 3);
const PATIENCE_MS = 60_000 + PODS * 20;

let cluster: ApiServer;
let kubeconfig: string;
let control: ControlProcess;
let plan: ScalePlan;
let node: TestNode;

beforeAll(async () => {
  cluster = await startApiServer();
  kubeconfig = await installControl(cluster);
  node = await createNode(cluster, 'tunnel-node', '10.0.1.2');
  plan = await createScale(cluster.adminApi, { pods: PODS, services: SERVICES });
  const started = performance.now();
  control = await startControl(cluster, kubeconfig, 'control');
  console.log(`control knows ${PODS} pods in ${SERVICES} services ${seconds(started)} after its start, ${memory(control.pid)}`);
  await until('the roots', () => mountRoots(cluster, NAMESPACE));
}, PATIENCE_MS);

afterAll(async () => {
  await control.kill();
  await cluster.close();
});

/** Flips what tunnels are told of a pod. @returns when the server has taken it, on `performance.now()` */
async function change(index: number, round: number): Promise<{ name: string; at: number }> {
  const { namespace, name } = plan.pods[index % plan.pods.length]!;
  const annotations = { 'ambient.istio.io/redirection': round % 2 === 0 ? null : 'enabled' };
  await cluster.adminApi.patch(`/api/v1/namespaces/${namespace}/pods/${name}/status`, { metadata: { annotations } }, 'merge');
  return { name: `Kubernetes//Pod/${namespace}/${name}`, at: performance.now() };
}

test(
  'a tunnel: first sync, and one change after another',
  async () => {
    const started = performance.now();
    const feed = node.feed(control.port);
    await until('the first sync', () => feed.synced(), PATIENCE_MS);
    const first = feed.feed.stats();
    console.log(`a tunnel's state is there ${seconds(started)} after it connects, ${(first.bytes / PODS).toFixed(0)} bytes per pod`);
    expect([...feed.store.workloads()].length).toBeGreaterThanOrEqual(PODS);
    const times: number[] = [];
    for (let index = 0; index < 50; index++) {
      const { ip, name } = plan.pods[index]!;
      const arrived = feed.until(`the change of ${name}`, () => feed.store.byIp(ip)?.protocol === 'TCP');
      const { at } = await change(index, 0);
      await arrived;
      times.push(performance.now() - at);
      await delay(100); // pushes keep a distance, and one change is not to wait for the one before
    }
    const after = feed.feed.stats();
    console.log(`from the API server's answer to the tunnel's state: ${percentiles(times)}; ${perChange(after.bytes - first.bytes, 50)}`);
    expect(after.responses - first.responses).toBeLessThanOrEqual(50);
    expect(after.nacks).toBe(0);
    feed.close();
    for (let index = 0; index < 50; index++) await change(index, 1);
  },
  PATIENCE_MS,
);

test(
  'a tunnel as a process',
  async () => {
    const { address, rootCert, tokenFile = '' } = node.access(control.port);
    const run = join(cluster.dir, 'tunnel');
    const flags = ['--node', node.name, '--run-dir', run, '--zds-socket', join(run, 'zds.sock'), '--admin-port', '0'];
    const access = ['--readiness-port', '0', '--xds-address', address, '--root-cert', rootCert, '--token-file', tokenFile];
    const main = join(import.meta.dirname, '../../../src/main.ts');
    const started = performance.now();
    const tunnel = new Component('ztunnel', [process.execPath, main, 'ztunnel', ...flags, ...access], join(cluster.dir, 'tunnel.log'));
    tunnel.start();
    // It looks for the agent as soon as it knows the mesh.
    await until('the tunnel to know the mesh', () => tunnel.tail().includes('"scope":"zds"'), PATIENCE_MS);
    console.log(`a tunnel's process knows it ${seconds(started)} after its start, ${memory(tunnel.pid)}`);
    await tunnel.kill();
  },
  PATIENCE_MS,
);

test(
  'many tunnels, many changes',
  async () => {
    const roots = readFileSync(node.access(control.port).rootCert, 'utf8');
    const token = readFileSync(node.access(control.port).tokenFile ?? '', 'utf8');
    /** resource → when it was changed, and how many tunnels have yet to hear of it */
    const waiting = new Map<string, { at: number; left: number }>();
    const times: number[] = [];
    let heard = 0;
    const onChange = (name: string): void => {
      heard++;
      const one = waiting.get(name);
      if (one === undefined || --one.left > 0) return;
      waiting.delete(name);
      times.push(performance.now() - one.at);
    };
    const connecting = performance.now();
    const listeners: Listener[] = Array.from({ length: TUNNELS }, (_, index) =>
      listen({ port: control.port, roots, token, node: `node-${index}`, onChange }),
    );
    const firsts = await Promise.all(listeners.map((each) => each.first));
    expect(new Set(firsts).size).toBe(1);
    console.log(`${TUNNELS} tunnels have the mesh ${seconds(connecting)} after they all connect at once, ${memory(control.pid)}`);
    const before = { status: await control.status(), cpu: cpuSeconds(control.pid), heard };
    const began = performance.now();
    const changes = CHANGES_PER_SECOND * SECONDS;
    for (let index = 0; index < changes; index++) {
      const { namespace, name } = plan.pods[index % PODS]!;
      const resource = `Kubernetes//Pod/${namespace}/${name}`;
      // Entered before it is made: it may be heard of before the server answers.
      if (!waiting.has(resource)) {
        waiting.set(resource, { at: performance.now(), left: TUNNELS });
        await change(index, Math.floor(index / PODS));
      }
      await delay(Math.max(0, began + ((index + 1) * 1000) / CHANGES_PER_SECOND - performance.now()));
    }
    await until('every tunnel to hear of every change', () => waiting.size === 0, PATIENCE_MS);
    const took = (performance.now() - began) / 1000;
    const after = await control.status();
    const responses = after.counters.responses - before.status.counters.responses;
    console.log(
      `${changes} changes in ${took.toFixed(1)} s to ${TUNNELS} tunnels: from the request to the last tunnel ${percentiles(times)}; ` +
        `${((cpuSeconds(control.pid) - before.cpu) / took).toFixed(2)} CPUs of control, ${responses} responses, ` +
        `${perChange((after.counters.bytes - before.status.counters.bytes) / TUNNELS, changes)} and tunnel, ${memory(control.pid)}`,
    );
    // One resource per change and tunnel, whatever was pushed together.
    expect(heard - before.heard).toBeLessThanOrEqual(changes * TUNNELS);
    expect(after.counters.nacks).toBe(0);
    for (const each of listeners) each.close();
    await until('the streams to end', async () => (await control.status()).sessions.length === 0);
  },
  PATIENCE_MS,
);

test(
  'control restarted under many tunnels: each resumes, none gets the mesh again',
  async () => {
    const feed = node.feed(control.port);
    await until('the first sync', () => feed.synced(), PATIENCE_MS);
    const before = feed.feed.stats();
    await control.kill();
    const started = performance.now();
    await control.restart();
    await until('the tunnel to be back', () => feed.feed.stats().responses > before.responses, PATIENCE_MS);
    const after = feed.feed.stats();
    console.log(`control back and the tunnel resumed ${seconds(started)} after the restart, with ${after.bytes - before.bytes} bytes`);
    expect(after.bytes - before.bytes).toBeLessThan(1000);
    feed.close();
  },
  PATIENCE_MS,
);

function seconds(since: number): string {
  return `${((performance.now() - since) / 1000).toFixed(2)} s`;
}

function perChange(bytes: number, changes: number): string {
  return `${(bytes / changes).toFixed(0)} bytes per change`;
}

function percentiles(times: number[]): string {
  const sorted = [...times].sort((a, b) => a - b);
  const at = (share: number): string => `${(sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0).toFixed(0)} ms`;
  return `p50 ${at(0.5)}, p99 ${at(0.99)}`;
}

function memory(pid: number): string {
  const [, kib = '0'] = /^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8')) ?? [];
  return `${Math.round(Number(kib) / 1024)} MiB resident`;
}

/** User and system time, of 100 ticks a second. */
function cpuSeconds(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[11]) + Number(fields[12])) / 100;
}
