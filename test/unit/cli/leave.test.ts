/** What a DaemonSet's controller and an API server in distress do to `culvert leave`; test/cluster/chart/leave.test.ts has a real server. */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { afterEach, describe, expect, it } from 'vitest';
import { runCli } from '../../../src/cli/main.ts';
import { servePlain, type PlainServer } from '../../support/kubernetes/scripted.ts';

const DAEMON_SET = '/apis/apps/v1/namespaces/mesh/daemonsets/agents';

let server: PlainServer | undefined;
afterEach(() => {
  server?.close();
  server = undefined;
});

interface Asked {
  method: string | undefined;
  path: string;
  query: string;
  body: string;
}

/**
 * @param rounds each what there is while one look lasts, the last for ever: pods by the uid of their owner, or a status that refuses
 */
async function leave(rounds: ({ pods: [name: string, owner: string][]; seen: number } | number)[], ...args: string[]) {
  const asked: Asked[] = [];
  let at = -1;
  server = await servePlain((request: IncomingMessage, response: ServerResponse) => {
    let body = '';
    request.on('data', (chunk: Buffer) => (body += chunk.toString()));
    request.on('end', () => {
      const { pathname: path, searchParams } = new URL(request.url ?? '', 'http://test');
      asked.push({ method: request.method, path, query: searchParams.get('labelSelector') ?? '', body });
      if (request.method === 'GET' && path === DAEMON_SET) at = Math.min(at + 1, rounds.length - 1);
      const round = rounds[at]!;
      if (typeof round === 'number') {
        response.writeHead(round).end(JSON.stringify({ kind: 'Status', message: 'told to refuse', code: round }));
        return;
      }
      const daemonSet = {
        metadata: { name: 'agents', uid: 'u1', generation: 2 },
        spec: { selector: { matchLabels: { app: 'agents', tier: 'node' } } },
        status: { observedGeneration: round.seen },
      };
      const items = round.pods.map(([name, uid]) => ({ metadata: { name, ownerReferences: [{ uid }] } }));
      response.end(JSON.stringify(path === DAEMON_SET ? daemonSet : { metadata: { resourceVersion: '1' }, items }));
    });
  });
  const said = { out: '', err: '' };
  const io = { out: (text: string) => void (said.out += text), err: (text: string) => void (said.err += text), tty: false };
  const code = await runCli(['leave', '--daemon-set', 'mesh/agents', '--kubeconfig', server.kubeconfig, ...args], io);
  return { code, asked, ...said };
}

describe('culvert leave', () => {
  it('tells the DaemonSet once, and waits for all of its pods and no others', async () => {
    const { code, out, err, asked } = await leave([
      { pods: [['agents-b', 'u1'], ['agents-a', 'u1'], ['debug', 'u2']], seen: 1 }, // prettier-ignore
      { pods: [['agents-b', 'u1'], ['debug', 'u2']], seen: 2 }, // prettier-ignore
      { pods: [['debug', 'u2']], seen: 2 },
    ]);
    expect({ code, err }).toEqual({ code: 0, err: 'waiting for agents-a, agents-b\nwaiting for agents-b\n' });
    expect(JSON.parse(out)).toEqual({ daemonSet: 'mesh/agents', pods: ['agents-a', 'agents-b'] });
    expect(asked.filter(({ method }) => method === 'PATCH')).toMatchObject([
      { path: DAEMON_SET, body: JSON.stringify({ spec: { template: { spec: { nodeSelector: { 'culvert.dev/leave': 'yes' } } } } }) },
    ]);
    expect(new Set(asked.filter(({ path }) => path !== DAEMON_SET).map(({ path, query }) => `${path} ${query}`))).toEqual(
      new Set(['/api/v1/namespaces/mesh/pods app=agents,tier=node']),
    );
  });

  it('does not take a DaemonSet for done whose controller has not seen that it is to leave', async () => {
    const { code, err, asked } = await leave([
      { pods: [], seen: 1 },
      { pods: [['agents-late', 'u1']], seen: 2 },
      { pods: [], seen: 2 },
    ]);
    expect({ code, err }).toEqual({ code: 0, err: 'waiting for the DaemonSet controller\nwaiting for agents-late\n' });
    expect(asked.filter(({ method, path }) => method === 'GET' && path === DAEMON_SET)).toHaveLength(3);
  });

  it('has nothing to do where there is no such DaemonSet', async () => {
    const { code, out, err, asked } = await leave([404]);
    expect({ code, err, asked: asked.length }).toEqual({ code: 0, err: '', asked: 1 });
    expect(JSON.parse(out)).toEqual({ daemonSet: 'mesh/agents', pods: [] });
  });

  it('asks again what it was refused', async () => {
    const { code, err } = await leave([403, 500, { pods: [], seen: 2 }]);
    expect(code).toBe(0);
    expect(err).toMatch(/^waiting for get \/apis\/.*told to refuse.*\n(waiting .*\n)?$/);
  });

  it('names what is left when the time is over', async () => {
    const names = Array.from({ length: 7 }, (_, i) => `agents-${i}`);
    const { code, out, err } = await leave([{ pods: names.map((name) => [name, 'u1']), seen: 2 }], '--timeout-ms', '500');
    expect({ code, out }).toEqual({ code: 1, out: '' });
    expect(err).toBe(
      `waiting for agents-0, agents-1, agents-2, agents-3, agents-4 and 2 more\nculvert: leave mesh/agents: after 0.5 s there are still ${names.join(', ')}\n`,
    );
    const refused = await leave([403], '--timeout-ms', '0');
    expect(refused).toMatchObject({
      code: 1,
      err: expect.stringMatching(/^culvert: leave mesh\/agents: after 0 s get .*told to refuse/) as unknown,
    });
  });

  it.each([
    ['--daemon-set', 'agents', 'must be "namespace/name", found "agents"'],
    ['--timeout-ms', 'soon', '--timeout-ms must be a number of milliseconds'],
  ])('takes no %s %s', async (flag, value, message) => {
    const { code, err, asked } = await leave([404], flag, value);
    expect({ code, asked }).toEqual({ code: 2, asked: [] });
    expect(err).toContain(message);
  });

  it('is not done by who has no credentials', async () => {
    const said: string[] = [];
    const io = { out: (text: string) => void said.push(text), err: (text: string) => void said.push(text), tty: false };
    expect(await runCli(['leave', '--daemon-set', 'mesh/agents', '--kubeconfig', '/absent/kubeconfig'], io)).toBe(1);
    expect(said).toEqual([expect.stringMatching(/^culvert: read credentials of the Kubernetes API: .*\/absent\/kubeconfig/)]);
  });
});
