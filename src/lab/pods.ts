/**
 * A pod's life as the kubelet runs it: sandbox and record first, then the CNI chain, then the process in its cgroup. Deleting
 * goes the other way.
 */
import { randomBytes, randomUUID } from 'node:crypto';
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { isSystem } from '../base/errors.ts';
import { makeCgroup, podCgroup, removeCgroup } from './cgroups.ts';
import type { Conflist } from './chain/conflist.ts';
import { cniPath } from './chain/plugins.ts';
import { addNetwork, delNetwork, PluginFailed, type ChainEnvironment, type ChainResult, type Sandbox } from './chain/runtime.ts';
import { nodeAddresses } from './network/addresses.ts';
import { createNetns, removeNetns } from './network/netns.ts';
import type { LabPaths } from './paths.ts';
import { forgetRecord, launch } from './processes.ts';
import { selfCommand } from './self.ts';
import { readState, setPod } from './state.ts';
import { podKey, type Topology, type TopologyPod } from './topology.ts';

/** A real kubelet tries for ever, every 11 s and more; a lab that is not up after this long never will be. */
const ADD_ATTEMPTS = 12;

export interface StartOptions {
  /** ADD that fails is repeated in a new sandbox, as the kubelet does; default true */
  retry?: boolean;
  onRetry?: (message: string) => void;
}

export async function startPod(lab: LabPaths, topology: Topology, pod: TopologyPod, options: StartOptions = {}): Promise<void> {
  const uid = randomUUID();
  if (pod.hostNetwork) {
    await startOnNode(lab, topology, pod, uid);
    return;
  }
  const netns = lab.podNetns(pod.namespace, pod.name);
  const { sandbox, result } = await addWithRetries(lab, pod, uid, netns, options);
  writeSandbox(lab, pod, sandbox);
  const ips = result.ips.map((ip) => ip.address.replace(/\/.*$/, ''));
  setPod(lab, podKey(pod), { uid, ips, netns, phase: 'Running' });
  await startProcess(lab, pod, netns, podCgroup(lab, pod.node, uid, sandbox.containerId));
}

async function addWithRetries(
  lab: LabPaths,
  pod: TopologyPod,
  uid: string,
  netns: string,
  options: StartOptions,
): Promise<{ sandbox: Sandbox; result: ChainResult }> {
  const chain = chainOf(lab, pod.node);
  for (let attempt = 1; ; attempt += 1) {
    const sandbox = newSandbox(pod, uid, netns);
    await createNetns(netns);
    setPod(lab, podKey(pod), { uid, ips: [], netns, phase: 'Pending' });
    try {
      return { sandbox, result: await addNetwork(chain, sandbox) };
    } catch (error) {
      await delNetwork(chain, sandbox).catch(() => undefined); // what ADD half made; the first error is the one to tell
      await removeNetns(netns);
      setPod(lab, podKey(pod), undefined);
      if (!(error instanceof PluginFailed) || options.retry === false || attempt === ADD_ATTEMPTS) throw error;
      options.onRetry?.(error.message);
      await delay(Math.min(100 * attempt, 500));
    }
  }
}

async function startOnNode(lab: LabPaths, topology: Topology, pod: TopologyPod, uid: string): Promise<void> {
  const node = lab.node(pod.node);
  const { v4, v6 } = nodeAddresses(topology.nodes.indexOf(pod.node) + 1);
  setPod(lab, podKey(pod), { uid, ips: [v4, v6], netns: node.netns, phase: 'Running' });
  await startProcess(lab, pod, node.netns, podCgroup(lab, pod.node, uid, randomBytes(32).toString('hex')));
}

async function startProcess(lab: LabPaths, pod: TopologyPod, netns: string, cgroup: string): Promise<void> {
  await launch({
    argv: pod.command ?? [...selfCommand(), 'lab-echo', pod.name],
    netns,
    cgroup: makeCgroup(cgroup),
    log: lab.podLog(pod.node, pod.namespace, pod.name),
    env: { HOSTNAME: pod.name },
    record: { dir: lab.node(pod.node).pidDir, name: `pod-${pod.namespace}-${pod.name}` },
    awaitReady: pod.command === undefined,
  });
}

/** Nothing there is success. @throws PluginFailed when a plugin refuses DEL */
export async function deletePod(lab: LabPaths, pod: TopologyPod): Promise<void> {
  const known = readState(lab).pods[podKey(pod)];
  if (known === undefined) return;
  await removeCgroup(dirname(podCgroup(lab, pod.node, known.uid, 'any')));
  const sandbox = readSandbox(lab, pod);
  if (sandbox !== undefined) await delNetwork(chainOf(lab, pod.node), sandbox);
  if (!pod.hostNetwork) await removeNetns(known.netns);
  setPod(lab, podKey(pod), undefined);
  forgetRecord(lab.node(pod.node).pidDir, `pod-${pod.namespace}-${pod.name}`);
  rmSync(sandboxFile(lab, pod), { force: true });
}

export function chainOf(lab: LabPaths, nodeName: string): ChainEnvironment {
  const node = lab.node(nodeName);
  const conflist = JSON.parse(readFileSync(join(node.cniDir, '10-culvert.conflist'), 'utf8')) as Conflist;
  return { conflist, nodeNetns: node.netns, cniPath: cniPath(lab.bin), cacheDir: join(node.cniDir, 'results') };
}

export function newSandbox(pod: TopologyPod, uid: string, netns: string): Sandbox {
  const containerId = randomBytes(32).toString('hex');
  return {
    containerId,
    netns,
    ifname: 'eth0',
    args: {
      IgnoreUnknown: '1',
      K8S_POD_NAMESPACE: pod.namespace,
      K8S_POD_NAME: pod.name,
      K8S_POD_INFRA_CONTAINER_ID: containerId,
      K8S_POD_UID: uid,
    },
  };
}

export function readSandbox(lab: LabPaths, pod: { namespace: string; name: string; node: string }): Sandbox | undefined {
  try {
    return JSON.parse(readFileSync(sandboxFile(lab, pod), 'utf8')) as Sandbox;
  } catch (error) {
    if (isSystem(error, 'ENOENT')) return undefined;
    throw error;
  }
}

function writeSandbox(lab: LabPaths, pod: TopologyPod, sandbox: Sandbox): void {
  mkdirSync(join(lab.node(pod.node).cniDir, 'sandboxes'), { recursive: true });
  writeFileSync(sandboxFile(lab, pod), JSON.stringify(sandbox));
}

function sandboxFile(lab: LabPaths, pod: { namespace: string; name: string; node: string }): string {
  return join(lab.node(pod.node).cniDir, 'sandboxes', `${pod.namespace}-${pod.name}.json`);
}
