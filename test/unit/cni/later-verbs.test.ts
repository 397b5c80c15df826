/** CHECK, STATUS and GC; and that every verb answers whatever it is given. */
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { respond } from '../../../src/cni/verbs.ts';
import { failure, PluginWorld, podArgs, runVerb, snapshot, type Fault } from '../../support/plugin-world.ts';

let world: PluginWorld;
const agent: PluginWorld['agent'] = (status, answer) => world.agent(status, answer);
const conf: PluginWorld['conf'] = (more) => world.conf(more);
const context: PluginWorld['context'] = (input, over) => world.context(input, over);

beforeEach(() => {
  world = new PluginWorld();
});

afterEach(async () => {
  await world.close();
});

describe('CHECK', () => {
  const checking = (more: Record<string, unknown> = {}, env: Record<string, string | undefined> = {}): ReturnType<typeof context> =>
    context(conf(more), { env: { CNI_COMMAND: 'CHECK', ...env }, snapshot: JSON.stringify(snapshot) });

  test.each(['0.4.0', '1.0.0', '1.1.0'])('asks the agent, in version %s', async (cniVersion) => {
    await agent(200, { enrolled: true, reason: 'label', faults: [] });
    expect(await runVerb(checking({ cniVersion }))).toBe('');
    expect(world.asked).toMatchObject([
      { path: '/v1/check', body: { network: 'k8s', containerId: 'c0ffee', ips: ['10.1.0.2', 'fd00::2'] } },
    ]);
  });

  test('says what is wrong with which pod', async () => {
    await agent(200, {
      enrolled: true,
      reason: 'label',
      faults: ['its sk_lookup link is not pinned', 'map own lacks its address 10.1.0.2'],
    });
    expect(await failure(checking())).toEqual({
      cniVersion: '1.0.0',
      code: 103,
      msg: 'check pod shop/web: its sk_lookup link is not pinned; map own lacks its address 10.1.0.2',
      details: expect.stringMatching(/culvert verify/) as string,
    });
  });

  test.each([
    ['the version before it came', { cniVersion: '0.3.1' }, {}, 1, /does not have CHECK/],
    ['no prevResult', { prevResult: undefined }, {}, 7, /prevResult/],
    ['a prevResult of another shape', { prevResult: { ips: [1] } }, {}, 7, /prevResult\.ips/],
    ['no netns', {}, { CNI_NETNS: '' }, 4, /CNI_NETNS/],
    ['a netns that is gone', {}, { CNI_NETNS: '/var/run/netns/none' }, 3, /c0ffee.*\/var\/run\/netns\/none does not exist/],
    ['no agent, for a pod of the mesh', {}, {}, 100, /check pod shop\/web.*does not answer/],
  ])('fails with %s', async (_, more, env, code, msg) => {
    const fault = await failure(checking(more, env));
    expect(fault.code).toBe(code);
    expect(fault.msg).toMatch(msg);
  });

  test('passes for a sandbox that is no pod, and without the agent for a pod outside the mesh', async () => {
    expect(await runVerb(checking({}, { CNI_ARGS: '' }))).toBe('');
    expect(await runVerb(checking({}, podArgs('legacy')))).toBe('');
  });

  test.each([
    [true, 11],
    [false, 101],
  ])('what the agent refuses, retryable %s, is code %s', async (retryable, code) => {
    await agent(500, { error: { code: 'SYSTEM', message: 'no', retryable } });
    expect((await failure(checking())).code).toBe(code);
  });
});

describe('STATUS', () => {
  const empty = { CNI_COMMAND: 'STATUS', CNI_CONTAINERID: '', CNI_NETNS: '', CNI_IFNAME: '', CNI_ARGS: '' };
  const asking = (more: Record<string, unknown> = {}): ReturnType<typeof context> =>
    context(conf({ cniVersion: '1.1.0', prevResult: undefined, ...more }), { env: empty });

  test('is yes by default, without a question', async () => {
    await agent(200, { ready: false, reason: 'no' });
    expect(await runVerb(asking())).toBe('');
    expect(world.asked).toEqual([]);
  });

  test.each([
    [{ ready: true, reason: '' }, undefined],
    [{ ready: false, reason: 'no list yet' }, 50],
  ])('by "agent-ready" %j is code %s', async (answer, code) => {
    await agent(200, answer);
    const input = asking({ statusPolicy: 'agent-ready' });
    if (code === undefined) expect(await runVerb(input)).toBe('');
    else {
      expect(await failure(input)).toMatchObject({
        cniVersion: '1.1.0',
        code,
        msg: expect.stringMatching(/no list yet/) as string,
        details: expect.stringMatching(/statusPolicy/) as string,
      });
    }
  });

  test('by "agent-ready" an agent that does not answer is code 50, soon', async () => {
    expect(await failure(asking({ statusPolicy: 'agent-ready' }))).toMatchObject({
      code: 50,
      msg: expect.stringMatching(/cni\.sock/) as string,
    });
    await agent(0, undefined);
    const hung = await failure(asking({ statusPolicy: 'agent-ready' }));
    expect(hung).toMatchObject({ code: 50, msg: expect.stringMatching(/no answer within 100 ms/) as string });
  });

  test.each(['0.3.1', '0.4.0', '1.0.0'])('is not in version %s', async (cniVersion) => {
    expect(await failure(asking({ cniVersion }))).toMatchObject({ cniVersion, code: 1 });
  });
});

describe('GC', () => {
  const collecting = (more: Record<string, unknown> = {}): ReturnType<typeof context> =>
    context(conf({ cniVersion: '1.1.0', prevResult: undefined, ...more }), {
      env: { CNI_COMMAND: 'GC', CNI_CONTAINERID: '', CNI_NETNS: '' },
    });
  const list = [{ containerID: 'c1', ifname: 'eth0' }];

  test.each([
    ['both keys', { 'cni.dev/valid-attachments': list, 'cni.dev/attachments': list }, [{ containerId: 'c1', ifname: 'eth0' }]],
    ["the first draft's", { 'cni.dev/attachments': list }, [{ containerId: 'c1', ifname: 'eth0' }]],
    ['null, as Go prints an empty list', { 'cni.dev/valid-attachments': null }, []],
    ['none, as cnitool does', {}, []],
  ])('passes on what is in use: %s', async (_, more, valid) => {
    await agent(200, { reaped: ['shop/a c0'], kept: ['shop/b c9'] });
    const input = collecting(more);
    expect(await runVerb(input)).toBe('');
    expect(world.asked).toEqual([{ path: '/v1/gc', body: { network: 'k8s', valid } }]);
    expect(input.notes.join('\n')).toMatch(/let go of shop\/a c0\n.*shop\/b c9.*left alone/);
  });

  test.each([
    ['a version without it', { cniVersion: '1.0.0' }, 1],
    ['a list that is none', { 'cni.dev/valid-attachments': {} }, 7],
    ['an attachment without name', { 'cni.dev/valid-attachments': [{ containerID: 'c' }] }, 7],
    ['no agent', {}, 11],
  ])('fails with %s', async (_, more, code) => {
    expect((await failure(collecting(more))).code).toBe(code);
  });
});

describe('whatever comes', () => {
  const words = [
    'cniVersion',
    'name',
    'prevResult',
    'ips',
    'runDir',
    'onAgentDown',
    'statusPolicy',
    'cni.dev/valid-attachments',
    '1.1.0',
    'k8s',
  ];
  const almost = fc.dictionary(fc.constantFrom(...words), fc.oneof(fc.jsonValue({ maxDepth: 2 }), fc.constantFrom(...words)));
  const stdin = fc.oneof(
    fc.string({ unit: 'binary' }),
    fc.json(),
    almost.map((value) => JSON.stringify({ ...value, runDir: '/nowhere' })),
    almost.map((value) => JSON.stringify(value).slice(0, -3)),
  );
  const variable = fc.oneof(fc.constantFrom(undefined, '', 'c0ffee', 'eth0', '/n', 'K8S_POD_NAMESPACE=a;K8S_POD_NAME=b'), fc.string());
  const env = fc.record({ CNI_CONTAINERID: variable, CNI_NETNS: variable, CNI_IFNAME: variable, CNI_ARGS: variable });
  const verb = fc.oneof(fc.constantFrom('ADD', 'DEL', 'CHECK', 'STATUS', 'GC', 'VERSION', '', '__proto__'), fc.string());

  test('the plugin answers: DEL and VERSION with success, else with success or an error of the specification', async () => {
    await fc.assert(
      fc.asyncProperty(stdin, env, verb, async (text, variables, CNI_COMMAND) => {
        const { text: answer, exitCode } = await respond(context(text, { env: { ...variables, CNI_COMMAND } }));
        if (CNI_COMMAND === 'DEL' || CNI_COMMAND === 'VERSION') expect(exitCode).toBe(0);
        if (exitCode === 0) return;
        const fault = JSON.parse(answer) as Fault;
        expect(fault.cniVersion).toMatch(/^\d+\.\d+\.\d+$/);
        expect(fault.msg).not.toBe('');
        expect([1, 2, 3, 4, 6, 7, 11, 50, 100]).toContain(fault.code); // 199, a fault of our own, is not among them
      }),
      { numRuns: 500 },
    );
  });

  test('an error speaks the version of the request, also one that is not ours', async () => {
    expect(await failure(context({ cniVersion: '9.9.9' }))).toMatchObject({ cniVersion: '9.9.9', code: 1 });
    expect(await failure(context({ cniVersion: 'x' }))).toMatchObject({ cniVersion: '1.1.0', code: 1 });
  });
});
