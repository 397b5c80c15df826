import { createServer, type Server } from 'node:http';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { CniAddRequest, EnrolmentFile } from '../../../src/agent/api.ts';
import { CniError, supportedVersions } from '../../../src/cni/spec.ts';
import { runVerb, type PluginContext } from '../../../src/cni/verbs.ts';

let runDir: string;
let server: Server | undefined;
let asked: { path: string; body: unknown }[];

beforeEach(() => {
  runDir = mkdtempSync(join(tmpdir(), 'culvert-cni-'));
  asked = [];
});

afterEach(async () => {
  server?.closeAllConnections();
  await new Promise((resolve) => (server === undefined ? resolve(undefined) : server.close(resolve)));
  server = undefined;
  rmSync(runDir, { recursive: true });
});

/** An agent that gives every request the same answer; status 0 never answers. */
async function agent(status: number, answer: unknown): Promise<void> {
  server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () => {
      asked.push({ path: request.url ?? '', body: JSON.parse(Buffer.concat(chunks).toString()) });
      if (status === 0) return;
      response.writeHead(status, { 'content-type': 'application/json' });
      response.end(typeof answer === 'string' ? answer : JSON.stringify(answer));
    });
  });
  await new Promise((resolve) => server?.listen(join(runDir, 'cni.sock'), () => resolve(undefined)));
}

const snapshot: EnrolmentFile = {
  version: 1,
  node: 'node1',
  writtenAt: '2026-01-01T00:00:00Z',
  excludedNamespaces: ['kube-system'],
  namespaces: { shop: { enrolled: true }, legacy: { enrolled: false } },
  ownPods: [{ namespace: 'culvert', namePrefix: 'ztunnel-' }],
};

function context(
  conf: unknown,
  over: { env?: Record<string, string | undefined>; snapshot?: string } = {},
): PluginContext & { notes: string[] } {
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
    note: (line) => notes.push(line),
    deadlines: { add: 300, del: 100 },
  };
}

function conf(more: Record<string, unknown> = {}): Record<string, unknown> {
  return {
    cniVersion: '1.0.0',
    name: 'k8s',
    type: 'culvert-cni',
    runDir,
    stateDir: runDir,
    prevResult: {
      cniVersion: '1.0.0',
      interfaces: [{ name: 'eth0', mac: '', sandbox: '/x' }],
      ips: [{ address: '10.1.0.2/24', gateway: '10.1.0.1', interface: 0 }, { address: 'fd00::2/64' }],
      dns: {},
    },
    ...more,
  };
}

const pod = (namespace: string, name = 'web'): Record<string, string> => ({
  CNI_ARGS: `K8S_POD_NAMESPACE=${namespace};K8S_POD_NAME=${name}`,
});

async function failure(run: Promise<string>): Promise<CniError> {
  const error: unknown = await run.then(
    (text) => new Error(`succeeded: ${text}`),
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(CniError);
  return error as CniError;
}

describe('ADD', () => {
  test('asks the agent with what the runtime gave, and passes prevResult through', async () => {
    await agent(200, { enrolled: true, reason: 'namespace label' });
    const input = conf();
    expect(JSON.parse(await runVerb(context(input)))).toEqual(input['prevResult']);
    expect(asked).toEqual([
      {
        path: '/v1/add',
        body: {
          containerId: 'c0ffee',
          netns: '/var/run/netns/a',
          ifname: 'eth0',
          podNamespace: 'shop',
          podName: 'web',
          podUid: 'u1',
          ips: ['10.1.0.2', 'fd00::2'],
        } satisfies CniAddRequest,
      },
    ]);
  });

  test('any prevResult comes back untouched, in the version of the configuration', async () => {
    const prevResult = fc.dictionary(
      fc.string().filter((key) => !['cniVersion', 'ips', '__proto__'].includes(key)),
      fc.jsonValue({ maxDepth: 3 }).map((value) => JSON.parse(JSON.stringify(value)) as unknown),
    );
    await fc.assert(
      fc.asyncProperty(prevResult, fc.constantFrom(...supportedVersions), async (result, cniVersion) => {
        const answer = await runVerb(
          context(conf({ cniVersion, prevResult: { ...result, cniVersion } }), { env: { CNI_ARGS: undefined } }),
        );
        expect(JSON.parse(answer)).toEqual({ ...result, cniVersion });
      }),
    );
  });

  test('CNI_ARGS count in any order', async () => {
    await agent(200, { enrolled: false, reason: 'not labelled' });
    const pairs = ['K8S_POD_NAME=web', 'K8S_POD_NAMESPACE=shop', 'K8S_POD_UID=u1', 'IgnoreUnknown=1', 'K8S_POD_INFRA_CONTAINER_ID=c'];
    await fc.assert(
      fc.asyncProperty(fc.shuffledSubarray(pairs, { minLength: pairs.length }), async (shuffled) => {
        asked = [];
        await runVerb(context(conf(), { env: { CNI_ARGS: shuffled.join(';') } }));
        expect(asked[0]?.body).toMatchObject({ podName: 'web', podNamespace: 'shop', podUid: 'u1' });
      }),
      { numRuns: 20 },
    );
  });

  test('a sandbox that is no Kubernetes pod passes without a question', async () => {
    await agent(200, { enrolled: true, reason: '' });
    await runVerb(context(conf(), { env: { CNI_ARGS: '' } }));
    expect(asked).toEqual([]);
  });

  test.each([
    ['no prevResult', conf({ prevResult: undefined }), {}, 7, /prevResult/],
    ['a prevResult of another shape', conf({ prevResult: { ips: ['10.0.0.1'] } }), {}, 7, /prevResult\.ips/],
    ['truncated stdin', '{"cniVersion":"1.0.0","na', {}, 6, /decode stdin/],
    ['empty stdin', '', {}, 6, /it is empty/],
    ['stdin that is no object', '[1]', {}, 6, /not a JSON object/],
    ['an old version', conf({ cniVersion: '0.2.0' }), {}, 1, /"0\.2\.0"/],
    ['a missing version', conf({ cniVersion: undefined }), {}, 1, /"0\.1\.0"/],
    ['an unknown policy', conf({ onAgentDown: 'maybe' }), {}, 7, /onAgentDown/],
    ['a relative directory', conf({ runDir: 'run' }), {}, 7, /runDir/],
    ['no container id', conf(), { CNI_CONTAINERID: '' }, 4, /CNI_CONTAINERID/],
    ['a bad container id', conf(), { CNI_CONTAINERID: '../x' }, 4, /CNI_CONTAINERID/],
    ['no netns', conf(), { CNI_NETNS: undefined }, 4, /CNI_NETNS/],
    ['a bad interface name', conf(), { CNI_IFNAME: 'much-too-long-for-linux' }, 4, /CNI_IFNAME/],
    ['a broken CNI_ARGS', conf(), { CNI_ARGS: 'K8S_POD_NAME' }, 4, /CNI_ARGS/],
    ['a pod without namespace', conf(), { CNI_ARGS: 'K8S_POD_NAME=web' }, 4, /K8S_POD_NAMESPACE/],
    ['a verb of a later version', conf(), { CNI_COMMAND: 'CHECK' }, 4, /CHECK is not supported/],
    ['no verb', conf(), { CNI_COMMAND: undefined }, 4, /CNI_COMMAND/],
  ] as const)('%s is refused', async (_, input, env, code, message) => {
    const error = await failure(runVerb(context(input, { env })));
    expect(error.code).toBe(code);
    expect(error.message).toMatch(message);
  });

  test('what the agent refuses names pod, cause and whether to retry', async () => {
    await agent(503, { error: { code: 'ZDS_NO_TUNNEL', message: 'enrol pod: no tunnel is connected', retryable: true } });
    const error = await failure(runVerb(context(conf())));
    expect(error.code).toBe(102);
    expect(error.message).toMatch(/shop\/web.*no tunnel is connected.*ZDS_NO_TUNNEL/);
    expect(error.details).toMatch(/tries again/);
  });
});

describe('ADD while the agent is away', () => {
  const known = JSON.stringify(snapshot);
  test.each([
    ['known', known, pod('legacy'), true],
    ['known', known, pod('shop'), false],
    ['known', known, pod('new'), false],
    ['known', known, pod('toString'), false],
    ['known', known, pod('kube-system'), true],
    ['known', known, pod('culvert', 'ztunnel-x1'), true],
    ['known', undefined, pod('legacy'), false],
    ['known', known.slice(0, 40), pod('legacy'), false],
    ['known', JSON.stringify({ ...snapshot, namespaces: { legacy: {} } }), pod('legacy'), false],
    ['closed', known, pod('legacy'), false],
    ['closed', known, pod('kube-system'), true],
    ['open', known, pod('shop'), true],
    ['open', undefined, pod('new'), true],
  ])('%s, snapshot %#: pass is %4$s', async (onAgentDown, file, env, pass) => {
    const input = context(conf({ onAgentDown }), { env, ...(file === undefined ? {} : { snapshot: file }) });
    if (pass) {
      await runVerb(input);
      expect(input.notes.join()).toMatch(/passed without the agent/);
    } else {
      const error = await failure(runVerb(input));
      expect(error.code).toBe(100);
      expect(error.message).toMatch(/does not answer/);
    }
  });

  test('an agent that never answers is away after the deadline', async () => {
    await agent(0, undefined);
    expect((await failure(runVerb(context(conf())))).message).toMatch(/no answer within 300 ms/);
  });

  test('an answer without sense is no answer', async () => {
    await agent(500, '<html>');
    expect((await failure(runVerb(context(conf())))).code).toBe(100);
  });
});

describe('DEL', () => {
  test('tells the agent', async () => {
    await agent(200, {});
    expect(await runVerb(context(conf({ prevResult: undefined }), { env: { CNI_COMMAND: 'DEL' } }))).toBe('');
    expect(asked).toEqual([
      { path: '/v1/del', body: { containerId: 'c0ffee', netns: '/var/run/netns/a', podNamespace: 'shop', podName: 'web', podUid: 'u1' } },
    ]);
  });

  test.each([
    ['the agent away', conf(), {}],
    ['everything empty', '', { CNI_CONTAINERID: '', CNI_NETNS: '', CNI_IFNAME: '', CNI_ARGS: '' }],
    ['garbage', '}{', { CNI_ARGS: ';;=' }],
    ['an unknown version', conf({ cniVersion: '9.9.9' }), {}],
  ])('succeeds with %s', async (_, input, env) => {
    expect(await runVerb(context(input, { env: { CNI_COMMAND: 'DEL', ...env } }))).toBe('');
  });

  test('waits no longer than its deadline', async () => {
    await agent(0, undefined);
    expect(await runVerb(context(conf(), { env: { CNI_COMMAND: 'DEL' } }))).toBe('');
  });
});

describe('VERSION', () => {
  test.each([
    ['', '1.1.0'],
    ['{"cniVersion":"0.4.0"}', '0.4.0'],
  ])('answers with stdin %j', async (stdin, cniVersion) => {
    expect(JSON.parse(await runVerb(context(stdin, { env: { CNI_COMMAND: 'VERSION' } })))).toEqual({
      cniVersion,
      supportedVersions: ['0.3.0', '0.3.1', '0.4.0', '1.0.0', '1.1.0'],
    });
  });
});
