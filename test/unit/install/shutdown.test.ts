import type { IncomingMessage, ServerResponse } from 'node:http';
import { afterEach, describe, expect, test } from 'vitest';
import { askDaemonSet } from '../../../src/install/daemon-set.ts';
import { runsOn } from '../../../src/install/node-affinity.ts';
import { shutdownDecision, type DaemonSetState } from '../../../src/install/shutdown.ts';
import { servePlain, type PlainServer } from '../../support/kubernetes/scripted.ts';
import { silent } from '../../support/install.ts';

describe('on shutdown', () => {
  test.each<[DaemonSetState, chained: string, ownConfig: string]>([
    ['present', 'leave', 'leave'],
    ['elsewhere', 'clean up', 'clean up'],
    ['deleting', 'clean up', 'clean up'],
    ['gone', 'clean up', 'clean up'],
    ['unauthorized', 'clean up', 'clean up'],
    ['unknown', 'clean up', 'leave'],
  ])('%s: %s; in own-config mode %s', (daemonSet, chained, own) => {
    expect(shutdownDecision({ daemonSet, ownConfig: false, safeUpgrade: true })).toBe(chained);
    expect(shutdownDecision({ daemonSet, ownConfig: true, safeUpgrade: true })).toBe(own);
    for (const ownConfig of [true, false]) expect(shutdownDecision({ daemonSet, ownConfig, safeUpgrade: false })).toBe('clean up');
  });
});

describe('the DaemonSet', () => {
  let server: PlainServer | undefined;
  afterEach(() => {
    server?.close();
    server = undefined;
  });

  const node = { kind: 'Node', metadata: { name: 'n1', labels: { zone: 'a' } } };
  const daemonSet = (pod: object = {}, metadata: object = {}): object => ({
    kind: 'DaemonSet',
    metadata: { name: 'culvert', ...metadata },
    spec: { template: { spec: pod } },
  });
  const requiring = (...values: string[]): object => ({
    affinity: {
      nodeAffinity: {
        requiredDuringSchedulingIgnoredDuringExecution: {
          nodeSelectorTerms: [{ matchExpressions: [{ key: 'zone', operator: 'In', values }] }],
        },
      },
    },
  });

  /** @param answers by path, one after the other; the last stays */
  async function ask(answers: Record<string, (object | number)[]>, retries = 0): Promise<{ state: DaemonSetState; asked: string[] }> {
    const asked: string[] = [];
    server = await servePlain((request: IncomingMessage, response: ServerResponse) => {
      const path = new URL(request.url ?? '', 'http://test').pathname;
      asked.push(path);
      const left = answers[path] ?? [404];
      const answer = left.length > 1 ? left.shift()! : left[0]!;
      if (typeof answer === 'number') response.writeHead(answer).end(JSON.stringify({ kind: 'Status', message: 'no', code: answer }));
      else response.writeHead(200).end(JSON.stringify(answer));
    });
    const question = { namespace: 'mesh', name: 'culvert', node: 'n1', retries, retryMs: 1 };
    return { state: await askDaemonSet(server.api, question, silent), asked };
  }

  const DS = '/apis/apps/v1/namespaces/mesh/daemonsets/culvert';
  const NODE = '/api/v1/nodes/n1';

  test.each<[DaemonSetState, Record<string, (object | number)[]>]>([
    ['present', { [DS]: [daemonSet()] }],
    ['present', { [DS]: [daemonSet(requiring('a', 'b'))], [NODE]: [node] }],
    ['elsewhere', { [DS]: [daemonSet(requiring('b'))], [NODE]: [node] }],
    ['elsewhere', { [DS]: [daemonSet({ nodeSelector: { zone: 'b' } })], [NODE]: [node] }],
    ['deleting', { [DS]: [daemonSet({}, { deletionTimestamp: '2026-01-01T00:00:00Z' })] }],
    ['gone', {}],
    ['unauthorized', { [DS]: [401] }],
    ['unauthorized', { [DS]: [403] }],
    ['unknown', { [DS]: [500] }],
    ['unknown', { [DS]: [daemonSet(requiring('a'))], [NODE]: [404] }],
    ['unknown', { [DS]: [daemonSet(requiring('a'))], [NODE]: [403] }], // the release is there: no sign that it was deleted
  ])('is %s', async (expected, answers) => {
    expect((await ask(answers)).state).toBe(expected);
  });

  test('is asked for again as often as is said', async () => {
    const { state, asked } = await ask({ [DS]: [500, 429, daemonSet()] }, 2);
    expect(state).toBe('present');
    expect(asked).toHaveLength(3);
  });

  test('a role or an account that is not there yet is waited for, one that is gone believed at last', async () => {
    expect(await ask({ [DS]: [403, 403, daemonSet()] })).toEqual({ state: 'present', asked: [DS, DS, DS] });
    expect(await ask({ [DS]: [403] })).toEqual({ state: 'unauthorized', asked: [DS, DS, DS] });
    expect(await ask({ [DS]: [500, 403] }, 2)).toEqual({ state: 'unauthorized', asked: [DS, DS, DS] });
    expect(await ask({ [DS]: [403, 403, 500] }, 2)).toEqual({ state: 'unknown', asked: [DS, DS, DS] });
    expect(await ask({ [DS]: [401, 401, daemonSet()] })).toEqual({ state: 'present', asked: [DS, DS, DS] });
    expect(await ask({ [DS]: [401] })).toEqual({ state: 'unauthorized', asked: [DS, DS, DS] });
  });

  test('is unknown after that', async () => {
    const { state, asked } = await ask({ [DS]: [500] }, 2);
    expect(state).toBe('unknown');
    expect(asked).toHaveLength(3);
  });

  test('is unknown without a server', async () => {
    server = await servePlain(() => undefined);
    const { api } = server;
    server.close();
    server = undefined;
    expect(await askDaemonSet(api, { namespace: 'mesh', name: 'culvert', node: 'n1', retries: 0 }, silent)).toBe('unknown');
  });
});

describe('node affinity', () => {
  const node = { metadata: { name: 'n1', labels: { zone: 'a', size: '8' } } };
  const required = (...nodeSelectorTerms: object[]): Record<string, unknown> => ({
    affinity: { nodeAffinity: { requiredDuringSchedulingIgnoredDuringExecution: { nodeSelectorTerms } } },
  });
  const expression = (key: string, operator: string, ...values: string[]): object => ({ matchExpressions: [{ key, operator, values }] });

  test.each<[boolean, Record<string, unknown>]>([
    [true, {}],
    [true, { affinity: { podAntiAffinity: {} } }],
    [true, { nodeSelector: { zone: 'a' } }],
    [false, { nodeSelector: { zone: 'a', disk: 'ssd' } }],
    [true, required(expression('zone', 'In', 'b'), expression('zone', 'In', 'a'))],
    [false, required()],
    [false, required({})],
    [false, required(expression('zone', 'NotIn', 'a'))],
    [true, required(expression('disk', 'NotIn', 'ssd'))],
    [true, required(expression('zone', 'Exists'))],
    [false, required(expression('disk', 'Exists'))],
    [true, required(expression('disk', 'DoesNotExist'))],
    [true, required(expression('size', 'Gt', '7'))],
    [false, required(expression('size', 'Gt', '8'))],
    [true, required(expression('size', 'Lt', '9'))],
    [false, required(expression('zone', 'Lt', '9'))],
    [false, required(expression('zone', 'Near', 'a'))],
    [true, required({ matchFields: [{ key: 'metadata.name', operator: 'In', values: ['n1'] }] })],
    [false, required({ matchFields: [{ key: 'metadata.name', operator: 'NotIn', values: ['n1'] }] })],
    [false, { nodeSelector: { zone: 'b' }, ...required(expression('zone', 'Exists')) }],
  ])('%s: %j', (expected, pod) => {
    expect(runsOn(pod, node)).toBe(expected);
  });
});
