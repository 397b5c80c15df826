/** A lab of two nodes whose tunnel is Istio's ztunnel, the one that CULVERT_TEST_ZTUNNEL names, unmodified. */
import { spawn, type ChildProcessByStdio } from 'node:child_process';
import { chmodSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { expect } from 'vitest';
import type { PodStatus } from '../../src/agent/api.ts';
import { makeCgroup, nodeCgroup } from '../../src/lab/cgroups.ts';
import { attempt } from '../../src/lab/command.ts';
import { daemonRecord } from '../../src/lab/daemons.ts';
import { Scene } from '../../src/lab/demo/scene.ts';
import { leftovers, takeDown } from '../../src/lab/down.ts';
import { inPod, placeOf } from '../../src/lab/exec.ts';
import { inNetns } from '../../src/lab/network/netns.ts';
import { LabPaths, type TunnelSlot } from '../../src/lab/paths.ts';
import { isGone } from '../../src/lab/processes.ts';
import { parseTopology } from '../../src/lab/topology.ts';
import { until } from '../../src/lab/until.ts';
import { bringUp } from '../../src/lab/up.ts';
import type { PodAnswers, PodRequest } from './pod-program.ts';

const program = (name: string): string => fileURLToPath(new URL(name, import.meta.url));
const node = process.execPath;

const TOPOLOGY = `nodes: [node1, node2]
namespaces:
  shop:   { labels: { istio.io/dataplane-mode: ambient } }
  legacy: { labels: {} }
pods:
  - { name: client,   namespace: shop,   node: node1, serviceAccount: client }
  - { name: other,    namespace: shop,   node: node2, serviceAccount: other }
  - { name: banned,   namespace: shop,   node: node1, serviceAccount: banned }
  - { name: web-1,    namespace: shop,   node: node1, serviceAccount: web, labels: { app: web } }
  - { name: web-2,    namespace: shop,   node: node2, serviceAccount: web, labels: { app: web } }
  - { name: old,      namespace: legacy, node: node2, serviceAccount: old, labels: { app: old } }
  - { name: resolver, namespace: legacy, node: node2, serviceAccount: old, command: ${JSON.stringify([node, program('resolver.ts')])} }
services:
  - { name: web,  namespace: shop,   selector: { app: web }, ports: [ { port: 80, targetPort: 8080 } ] }
  - { name: each, namespace: shop,   selector: { app: web }, ports: [ { port: 8080 } ], headless: true }
  - { name: old,  namespace: legacy, selector: { app: old }, ports: [ { port: 80, targetPort: 8080 } ] }
`;

export const inShop = (pod: Pick<PodStatus, 'namespace'>): boolean => pod.namespace === 'shop';

export interface World {
  lab: LabPaths;
  scene: Scene;
  /** the tunnels' /etc/resolv.conf from their next start on */
  setResolver(address: string): void;
  close(): Promise<void>;
}

/** @param name of the lab, after "cvt-zt-" @param env of the tunnels, beside what the lab gives them @param yaml its truth */
export async function buildWorld(name: string, env: Record<string, string> = {}, yaml = TOPOLOGY): Promise<World> {
  const binary = process.env['CULVERT_TEST_ZTUNNEL'];
  if (binary === undefined) throw new Error('CULVERT_TEST_ZTUNNEL names no ztunnel');
  const lab = new LabPaths(`cvt-zt-${name}-${process.pid}`);
  const directory = process.env['TMPDIR'] ?? '/tmp';
  const resolvConf = join(directory, `${lab.name}-resolv.conf`);
  const start = join(directory, `${lab.name}-ztunnel`);
  writeFileSync(resolvConf, 'nameserver 192.0.2.53\n');
  // ztunnel asks the resolver of its container; here that is a file bound over the host's in a mount namespace of its own
  writeFileSync(start, `#!/bin/sh\nexec unshare --mount sh -c 'mount --bind ${resolvConf} /etc/resolv.conf && exec "$0"' ${binary}\n`);
  chmodSync(start, 0o755);
  Object.assign(process.env, env);
  const saved = Object.keys(env);
  await bringUp(lab, yaml, parseTopology(yaml, 'test'), { tunnel: { ztunnel: start } });
  const scene = await Scene.set(lab);
  return {
    lab,
    scene,
    setResolver: (address) => {
      writeFileSync(resolvConf, `nameserver ${address}\noptions timeout:2 attempts:2\n`);
    },
    async close() {
      for (const key of saved) Reflect.deleteProperty(process.env, key);
      for (const path of [resolvConf, start]) rmSync(path);
      scene.close();
      await takeDown(lab);
      expect(leftovers(lab)).toEqual([]);
    },
  };
}

/** The pod that is asked to do something; `undefined` places are the node itself. */
export class PodProgram {
  readonly #child: ChildProcessByStdio<Writable, Readable, null>;
  readonly #waiting = new Map<number, (line: { ok: boolean; answer?: unknown; error?: string }) => void>();
  #seq = 0;

  private constructor(child: ChildProcessByStdio<Writable, Readable, null>) {
    this.#child = child;
  }

  static inPod(lab: LabPaths, key: string): Promise<PodProgram> {
    return PodProgram.#start(inPod(placeOf(lab, key), [node, program('pod-program.ts')]));
  }

  /** In the node's own network namespace, and in its part of the cgroups, where kubelet would be. */
  static onNode(lab: LabPaths, name: string): Promise<PodProgram> {
    const cgroup = makeCgroup(join(nodeCgroup(lab, name), 'kubelet'));
    const argv = inNetns(lab.node(name).netns, [node, program('pod-program.ts')]);
    return PodProgram.#start(['sh', '-c', 'echo $$ > "$0/cgroup.procs" && exec "$@"', cgroup, ...argv]);
  }

  static async #start([command, ...args]: string[]): Promise<PodProgram> {
    const child = spawn(command ?? '', args, { stdio: ['pipe', 'pipe', 'inherit'] });
    child.stdin.on('error', () => undefined); // told by the answers that do not come
    const started = new PodProgram(child);
    await new Promise<void>((resolve, reject) => {
      started.#waiting.set(0, () => {
        resolve();
      });
      child.once('exit', (code) => {
        reject(new Error(`pod program ended with ${String(code)}`));
        for (const settle of started.#waiting.values()) settle({ ok: false, error: 'the pod program is gone' });
      });
      createInterface({ input: child.stdout }).on('line', (text) => {
        const { seq, ...line } = JSON.parse(text) as { seq: number; ok: boolean };
        started.#waiting.get(seq)?.(line);
        started.#waiting.delete(seq);
      });
    });
    return started;
  }

  async ask<R extends PodRequest>(request: R): Promise<PodAnswers[R['op']]> {
    this.#seq += 1;
    const seq = this.#seq;
    const line = await new Promise<{ ok: boolean; answer?: unknown; error?: string }>((resolve) => {
      this.#waiting.set(seq, resolve);
      this.#child.stdin.write(`${JSON.stringify({ seq, ...request })}\n`);
    });
    if (!line.ok) throw new Error(`${request.op}: ${line.error ?? ''}`);
    return line.answer as PodAnswers[R['op']];
  }

  close(): void {
    this.#child.kill('SIGKILL');
  }
}

/** As kubelet asks it: readiness on port 15021, 200 once it has its snapshot and serves every pod of it. */
export async function ready(lab: LabPaths, nodeName: string, slot: TunnelSlot = 'ztunnel'): Promise<void> {
  const { netns } = lab.node(nodeName).tunnels[slot];
  const ask = `fetch('http://127.0.0.1:15021/healthz/ready').then((r) => process.exit(r.status === 200 ? 0 : 1), () => process.exit(1))`;
  await until(`${slot} of ${nodeName} to be ready`, 20_000, async () =>
    (await attempt(inNetns(netns, [node, '-e', ask]))).code === 0 ? true : undefined,
  );
}

/** Resolves when the process, and with it every socket that only it had, is gone. */
export async function ended(lab: LabPaths, nodeName: string, slot: TunnelSlot = 'ztunnel'): Promise<void> {
  const record = daemonRecord(lab, nodeName, slot);
  await until(`${slot} of ${nodeName} to end`, 20_000, () => (isGone(record) ? true : undefined));
}
