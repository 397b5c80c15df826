/** What the plugin's tests share: a process in memory, and an agent that gives every request the same answer. */
import { createServer, type Server } from 'node:http';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'vitest';
import type { EnrolmentFile } from '../../src/agent/api.ts';
import type { PluginContext } from '../../src/cni/context.ts';
import { respond } from '../../src/cni/verbs.ts';

export const snapshot: EnrolmentFile = {
  version: 1,
  node: 'node1',
  writtenAt: '2026-01-01T00:00:00Z',
  excludedNamespaces: ['kube-system'],
  namespaces: { shop: { enrolled: true }, legacy: { enrolled: false } },
  ownPods: [{ namespace: 'culvert', namePrefix: 'ztunnel-' }],
};

export interface Fault {
  cniVersion: string;
  code: number;
  msg: string;
  details?: string;
}

/** CNI_ARGS of a pod. */
export const podArgs = (namespace: string, name = 'web'): Record<string, string> => ({
  CNI_ARGS: `K8S_POD_NAMESPACE=${namespace};K8S_POD_NAME=${name}`,
});

export class PluginWorld {
  readonly runDir = mkdtempSync(join(tmpdir(), 'culvert-cni-'));
  /** what the agent was asked */
  asked: { path: string; body: unknown }[] = [];
  #server: Server | undefined;

  /** @param status 0 never answers */
  async agent(status: number, answer: unknown): Promise<void> {
    const server = createServer((request, response) => {
      const chunks: Buffer[] = [];
      request.on('data', (chunk: Buffer) => chunks.push(chunk));
      request.on('end', () => {
        this.asked.push({ path: request.url ?? '', body: JSON.parse(Buffer.concat(chunks).toString()) });
        if (status === 0) return;
        response.writeHead(status, { 'content-type': 'application/json' });
        response.end(typeof answer === 'string' ? answer : JSON.stringify(answer));
      });
    });
    this.#server = server;
    await new Promise((resolve) => server.listen(join(this.runDir, 'cni.sock'), () => resolve(undefined)));
  }

  async close(): Promise<void> {
    const server = this.#server;
    server?.closeAllConnections();
    await new Promise((resolve) => (server === undefined ? resolve(undefined) : server.close(resolve)));
    rmSync(this.runDir, { recursive: true });
  }

  /** An ADD of shop/web, or what `over` makes of it. */
  context(conf: unknown, over: { env?: Record<string, string | undefined>; snapshot?: string } = {}): PluginContext & { notes: string[] } {
    const notes: string[] = [];
    return {
      notes,
      env: {
        CNI_COMMAND: 'ADD',
        CNI_CONTAINERID: 'c0ffee',
        CNI_NETNS: '/var/run/netns/a',
        CNI_IFNAME: 'eth0',
        CNI_ARGS: 'IgnoreUnknown=1;K8S_POD_NAME=web;K8S_POD_UID=u1;K8S_POD_NAMESPACE=shop',
        ...over.env,
      },
      stdin: () => (typeof conf === 'string' ? conf : JSON.stringify(conf)),
      readFile: () => {
        if (over.snapshot === undefined) throw new Error('ENOENT');
        return over.snapshot;
      },
      exists: (path) => path !== '/var/run/netns/none',
      note: (line) => notes.push(line),
      deadlines: { add: 300, del: 100, check: 200, gc: 200, status: 100 },
    };
  }

  conf(more: Record<string, unknown> = {}): Record<string, unknown> {
    return {
      cniVersion: '1.0.0',
      name: 'k8s',
      type: 'culvert-cni',
      runDir: this.runDir,
      stateDir: this.runDir,
      prevResult: {
        cniVersion: '1.0.0',
        interfaces: [{ name: 'eth0', mac: '', sandbox: '/x' }],
        ips: [{ address: '10.1.0.2/24', gateway: '10.1.0.1', interface: 0 }, { address: 'fd00::2/64' }],
        dns: {},
      },
      ...more,
    };
  }
}

/** What is on stdout of a run that succeeds. */
export async function runVerb(input: PluginContext): Promise<string> {
  const { text, exitCode } = await respond(input);
  expect(exitCode, text).toBe(0);
  return text;
}

/** The error object of one that does not. */
export async function failure(input: PluginContext): Promise<Fault> {
  const { text, exitCode } = await respond(input);
  expect(exitCode, text).toBe(1);
  return JSON.parse(text) as Fault;
}
