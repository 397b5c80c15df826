/** The plugin as it is shipped: one executable, run as a runtime runs it, against an agent's socket or none at all. */
import { spawn } from 'node:child_process';
import { closeSync, existsSync, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { CniAddRequest, EnrolmentFile } from '../../../src/agent/api.ts';

const PLUGIN = new URL('../../../build/culvert-cni', import.meta.url).pathname;

interface Answer {
  code: number | null;
  stdout: string;
  stderr: string;
}
interface Run {
  env?: Record<string, string>;
  /** in pieces; undefined: as `conf` */
  stdin?: string[];
}

const prevResult = {
  cniVersion: '1.1.0',
  interfaces: [{ name: 'eth0', mac: '00:00:5e:00:53:01', sandbox: '/var/run/netns/cni-1', mtu: 1450 }],
  ips: [{ interface: 0, address: '10.1.0.2/24' }],
  routes: [{ dst: '0.0.0.0/0' }],
};

describe('the executable', () => {
  let dir: string;
  let server: Server;
  let asked: { path: string; body: CniAddRequest }[] = [];

  beforeAll(async () => {
    dir = mkdtempSync(join(tmpdir(), 'cvt-exe-'));
    mkdirSync(join(dir, 'run'));
    server = createServer((request, response) => {
      const chunks: Buffer[] = [];
      request.on('data', (chunk: Buffer) => chunks.push(chunk));
      request.on('end', () => {
        asked.push({ path: request.url ?? '', body: JSON.parse(Buffer.concat(chunks).toString()) as CniAddRequest });
        response.end(JSON.stringify({ enrolled: true, reason: '', faults: [], reaped: [], kept: [], ready: true }));
      });
    });
    await new Promise((resolve) => server.listen(join(dir, 'run/cni.sock'), () => resolve(undefined)));
  });
  beforeEach(() => {
    asked = [];
  });
  afterAll(async () => {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
    rmSync(dir, { recursive: true });
  });

  const conf = (more: Record<string, unknown> = {}): string =>
    JSON.stringify({
      cniVersion: '1.1.0',
      name: 'k8s',
      type: 'culvert-cni',
      runDir: join(dir, 'run'),
      stateDir: join(dir, 'state'),
      prevResult,
      ...more,
    });
  const podEnv = (namespace: string, name = 'web'): Record<string, string> => ({
    CNI_COMMAND: 'ADD',
    CNI_CONTAINERID: '3f4e',
    CNI_NETNS: '/proc/self/ns/net',
    CNI_IFNAME: 'eth0',
    CNI_PATH: '/opt/cni/bin',
    CNI_ARGS: `K8S_POD_INFRA_CONTAINER_ID=3f4e;K8S_POD_UID=u1;K8S_POD_NAME=${name};IgnoreUnknown=1;K8S_POD_NAMESPACE=${namespace}`,
  });
  const run = async ({ env = podEnv('shop'), stdin = [conf()] }: Run): Promise<Answer> => {
    const child = spawn(PLUGIN, [], { env }); // and nothing else: no HOME, no PATH
    const answer: Answer = { code: null, stdout: '', stderr: '' };
    child.stdout.on('data', (chunk: Buffer) => (answer.stdout += chunk.toString()));
    child.stderr.on('data', (chunk: Buffer) => (answer.stderr += chunk.toString()));
    child.stdin.on('error', () => undefined);
    const closed = new Promise<number | null>((resolve) => child.on('close', resolve));
    for (const [i, piece] of stdin.entries()) {
      if (i > 0) await sleep(20);
      child.stdin.write(piece);
    }
    child.stdin.end();
    return { ...answer, code: await closed, stdout: answer.stdout, stderr: answer.stderr };
  };
  const failed = (answer: Answer): { code: number; msg: string; details: string; cniVersion: string } => {
    expect(answer).toMatchObject({ code: 1, stderr: '' });
    return JSON.parse(answer.stdout) as ReturnType<typeof failed>;
  };

  it('needs neither environment nor files of its own, and is not told by those of Node', async () => {
    const env = {
      ...podEnv('shop'),
      NODE_OPTIONS: '--inspect-brk --require /nonexistent',
      NODE_DEBUG: 'net',
      NODE_PENDING_DEPRECATION: '1',
    };
    const answer = await run({ env });
    expect(answer).toMatchObject({ code: 0, stderr: '' });
    expect(JSON.parse(answer.stdout)).toEqual(prevResult);
    expect(asked).toMatchObject([{ path: '/v1/add', body: { podName: 'web', podUid: 'u1', ips: ['10.1.0.2'] } }]);
  });

  it('ten at once each get their own answer', async () => {
    const answers = await Promise.all(
      Array.from({ length: 10 }, (_, n) =>
        run({ env: { ...podEnv('shop', `web-${n}`), CNI_CONTAINERID: `c${n}` }, stdin: [conf({ prevResult: { ...prevResult, n } })] }),
      ),
    );
    expect(answers.map(({ code, stdout }) => [code, (JSON.parse(stdout) as { n: number }).n])).toEqual(answers.map((_, n) => [0, n]));
    expect(asked.map(({ body }) => body.containerId).toSorted()).toEqual(answers.map((_, n) => `c${n}`));
  });

  it('stdin in pieces, to the last byte of 1 MiB, and not one more', async () => {
    const text = conf();
    expect((await run({ stdin: [text.slice(0, 10), text.slice(10, 200), text.slice(200)] })).code).toBe(0);
    const full = text + ' '.repeat((1 << 20) - text.length);
    expect(JSON.parse((await run({ stdin: [full] })).stdout)).toEqual(prevResult);
    expect(failed(await run({ stdin: [`${full} `] }))).toMatchObject({ code: 6, msg: 'decode stdin: it is larger than 1 MiB' });
    const large = { ...prevResult, filler: 'ä'.repeat(500_000) };
    expect(JSON.parse((await run({ stdin: [conf({ prevResult: large })] })).stdout)).toEqual(large);
  });

  it.each([
    ['truncated', '{"cniVersion":"1.1.0","name":"k8s","pr', 6],
    ['empty', '', 6],
    ['no JSON', 'cniVersion: 1.1.0', 6],
    ['no object', '[]', 6],
    ['binary', '\u0000\u0001\u0002', 6],
  ])('%s stdin is an error that says so', async (_, text, code) => {
    expect(failed(await run({ stdin: [text] }))).toMatchObject({
      cniVersion: '1.1.0',
      code,
      msg: expect.stringMatching(/^decode stdin: ./) as string,
    });
  });

  it('without a stdin, and with a stdout that nobody reads', async () => {
    const nothing = openSync('/dev/null', 'r');
    const version = spawn(PLUGIN, [], { env: { CNI_COMMAND: 'VERSION' }, stdio: [nothing, 'pipe', 'inherit'] });
    let text = '';
    version.stdout?.on('data', (chunk: Buffer) => (text += chunk.toString()));
    expect(await new Promise((resolve) => version.on('close', resolve))).toBe(0);
    closeSync(nothing);
    expect(JSON.parse(text)).toMatchObject({ cniVersion: '1.1.0' });

    const child = spawn(PLUGIN, [], { env: podEnv('shop') });
    child.stdout.destroy();
    child.stdin.end(conf({ prevResult: { ...prevResult, filler: 'x'.repeat(500_000) } }));
    expect(await new Promise((resolve) => child.on('close', resolve))).toBe(0);
  });

  it("DEL three times as containerd's, the later ones with nothing but the container id", async () => {
    const first = { ...podEnv('shop'), CNI_COMMAND: 'DEL' };
    const later = { ...first, CNI_NETNS: '' };
    const bare = conf({ prevResult: undefined });
    expect(await run({ env: first })).toEqual({ code: 0, stdout: '', stderr: '' });
    for (let n = 0; n < 2; n++) expect(await run({ env: later, stdin: [bare] })).toEqual({ code: 0, stdout: '', stderr: '' });
    expect(asked.map(({ path, body }) => [path, body.containerId, body.netns])).toEqual([
      ['/v1/del', '3f4e', '/proc/self/ns/net'],
      ['/v1/del', '3f4e', ''],
      ['/v1/del', '3f4e', ''],
    ]);
  });

  it('STATUS by both policies, with everything else empty', async () => {
    const env = { CNI_COMMAND: 'STATUS', CNI_CONTAINERID: '', CNI_NETNS: '', CNI_IFNAME: '', CNI_ARGS: '', CNI_PATH: '/opt/cni/bin' };
    const ask = (more: Record<string, unknown>): Promise<Answer> => run({ env, stdin: [conf({ prevResult: undefined, ...more })] });
    expect(await ask({})).toEqual({ code: 0, stdout: '', stderr: '' });
    expect(asked).toEqual([]);
    expect(await ask({ statusPolicy: 'agent-ready' })).toEqual({ code: 0, stdout: '', stderr: '' });
    expect(failed(await ask({ statusPolicy: 'agent-ready', runDir: '/run/cvt-none' }))).toMatchObject({
      code: 50,
      msg: expect.stringContaining('/run/cvt-none/cni.sock: connect: ENOENT') as string,
    });
  });

  describe('after a reboot, before the agent runs', () => {
    const known: EnrolmentFile = {
      version: 1,
      node: 'n1',
      writtenAt: '2026-01-01T00:00:00Z',
      excludedNamespaces: ['kube-system'],
      namespaces: { shop: { enrolled: true }, legacy: { enrolled: false } },
      ownPods: [{ namespace: 'culvert-system', namePrefix: 'culvert-node-' }],
    };
    const state = (): string => join(dir, 'state');
    const add = (namespace: string, name?: string): Promise<Answer> =>
      run({ env: podEnv(namespace, name), stdin: [conf({ runDir: join(dir, 'run-of-before') })] });
    const passes = async (namespace: string, name?: string): Promise<void> => {
      const answer = await add(namespace, name);
      expect(answer.code, answer.stdout).toBe(0);
      expect(JSON.parse(answer.stdout)).toEqual(prevResult);
      expect(answer.stderr).toMatch(/passed without the agent: /);
    };
    const waits = async (namespace: string, cause: RegExp, name?: string): Promise<void> => {
      const fault = failed(await add(namespace, name));
      expect(fault.code).toBe(100);
      expect(fault.msg).toMatch(new RegExp(`add pod ${namespace}/${name ?? 'web'}: culvert agent does not answer`));
      expect(fault.msg).toMatch(cause);
      expect(fault.details).toMatch(/start the culvert agent/);
    };
    beforeEach(() => {
      rmSync(state(), { recursive: true, force: true });
      expect(existsSync(join(dir, 'run-of-before'))).toBe(false);
    });

    it('what the agent remembered decides', async () => {
      mkdirSync(state());
      writeFileSync(join(state(), 'enrolment.json'), JSON.stringify(known));
      await passes('culvert-system', 'culvert-node-x7f2k'); // or it could never come back
      await passes('kube-system', 'coredns-1');
      await passes('legacy');
      await waits('shop', /namespace shop is enrolled in the mesh/);
      await waits('new', /namespace new is not known to be outside the mesh/);
      await waits('shop', /enrolled/, 'culvert-node-x7f2k'); // the name alone is no proof
    });

    it.each([
      ['nothing', undefined],
      ['an empty file', ''],
      ['half a file', JSON.stringify(known).slice(0, 150)],
      ['a file of another shape', JSON.stringify({ ...known, namespaces: { legacy: true } })],
      ['a file of a later version', JSON.stringify({ ...known, version: 2 })],
    ])('with %s remembered, nobody is let past', async (_, text) => {
      mkdirSync(state());
      if (text !== undefined) writeFileSync(join(state(), 'enrolment.json'), text);
      await waits('legacy', /not known/);
      await waits('shop', /not known/);
    });

    it('DEL lets go', async () => {
      const env = { ...podEnv('shop'), CNI_COMMAND: 'DEL' };
      expect(await run({ env, stdin: [conf({ runDir: '/run/cvt-none' })] })).toMatchObject({ code: 0, stdout: '' });
    });
  });

  it('has neither addon nor Kubernetes client in it', () => {
    const bundle = readFileSync(new URL('../../../build/bundle/culvert-cni.cjs', import.meta.url), 'utf8');
    expect(bundle).not.toMatch(/\.node"|kubernetes\.io\/serviceaccount|kubeconfig|node:(http|https|net|tls|child_process)"/);
  });
});
