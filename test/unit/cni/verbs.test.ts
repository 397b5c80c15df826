/** ADD, DEL and VERSION, over a real socket to an agent of the test. */
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { CniAddRequest } from '../../../src/agent/api.ts';
import { supportedVersions } from '../../../src/cni/spec.ts';
import { failure, PluginWorld, podArgs, runVerb, snapshot } from '../../support/plugin-world.ts';

let world: PluginWorld;
let runDir: string;
const agent: PluginWorld['agent'] = (status, answer) => world.agent(status, answer);
const conf: PluginWorld['conf'] = (more) => world.conf(more);
const context: PluginWorld['context'] = (input, over) => world.context(input, over);

beforeEach(() => {
  world = new PluginWorld();
  ({ runDir } = world);
});

afterEach(async () => {
  await world.close();
});

describe('ADD', () => {
  test('asks the agent with what the runtime gave, and passes prevResult through', async () => {
    await agent(200, { enrolled: true, reason: 'namespace label' });
    const input = conf();
    expect(JSON.parse(await runVerb(context(input)))).toEqual(input['prevResult']);
    expect(world.asked).toEqual([
      {
        path: '/v1/add',
        body: {
          network: 'k8s',
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

  test('any prevResult comes back as it was written, in every version', async () => {
    const key = fc.oneof(fc.string(), fc.constantFrom('cniVersion', 'prevResult', '__proto__', '"\\"', '}'));
    const member = fc.tuple(key, fc.jsonValue({ maxDepth: 3 }), fc.constantFrom('', ' ', '\n\t'));
    const exotic = fc.constantFrom('1.0', '-0', '1e400', '12345678901234567890', '"\\u0041"', '{ "a":1,"a":2 }', '[ ]');
    await fc.assert(
      fc.asyncProperty(
        fc.array(member.filter(([name]) => name !== 'cniVersion' && name !== 'ips')),
        exotic,
        fc.constantFrom(...supportedVersions),
        fc.constantFrom(...supportedVersions, undefined),
        fc.boolean(),
        async (members, odd, cniVersion, resultVersion, first) => {
          const texts = members.map(
            ([name, value, space]) => `${space}${JSON.stringify(name)}${space}:${space}${JSON.stringify(value)}${space}`,
          );
          const versionMember = resultVersion === undefined ? [] : [`"cniVersion" : "${resultVersion}"`];
          const prevResult = `{${[...texts, `"odd":${odd}`, ...versionMember].join(',')}}`;
          const rest = { name: 'k8s', runDir, '"prevResult"': '{' };
          const head = JSON.stringify({ ...rest, cniVersion }).slice(1, -1);
          const stdin = first ? `{"prevResult":${prevResult},${head}}` : `{${head} , "prevResult" : ${prevResult}\n}`;
          const answer = await runVerb(context(stdin, { env: { CNI_ARGS: undefined } }));
          if (resultVersion === cniVersion) expect(answer).toBe(prevResult);
          else {
            expect(answer).toContain(`"odd":${odd}`);
            expect(JSON.parse(answer)).toEqual({ ...(JSON.parse(prevResult) as object), cniVersion });
          }
        },
      ),
    );
  });

  test.each(supportedVersions.flatMap((cniVersion) => [undefined, null].map((none) => [cniVersion, none] as const)))(
    'unchained, in version %s with prevResult %s, the answer is an empty result, and the agent looks for the addresses',
    async (cniVersion, prevResult) => {
      await agent(200, { enrolled: true, reason: 'label' });
      expect(await runVerb(context(conf({ cniVersion, prevResult })))).toBe(`{"cniVersion":"${cniVersion}"}`);
      expect(world.asked).toMatchObject([{ path: '/v1/add', body: { podName: 'web', ips: [] } }]);
    },
  );

  test('unknown keys of our entry are for others, now or later', async () => {
    await agent(200, { enrolled: true, reason: '' });
    const more = { type: 'culvert-cni', capabilities: { dns: true }, runtimeConfig: { dns: {} }, args: { cni: {} }, dns: {}, later: [1] };
    expect(JSON.parse(await runVerb(context(conf(more))))).toEqual(conf()['prevResult']);
  });

  test('what is asked at once is answered at once, each with its own', async () => {
    await agent(200, { enrolled: true, reason: '' });
    const ids = Array.from({ length: 50 }, (_, n) => `c${n}`);
    const answers = await Promise.all(
      ids.map((id) => runVerb(context(conf({ prevResult: { id, cniVersion: '1.0.0' } }), { env: { CNI_CONTAINERID: id } }))),
    );
    expect(answers.map((answer) => (JSON.parse(answer) as { id: string }).id)).toEqual(ids);
    expect(world.asked.map(({ body }) => (body as CniAddRequest).containerId).toSorted()).toEqual(ids.toSorted());
  });

  test('CNI_ARGS count in any order', async () => {
    await agent(200, { enrolled: false, reason: 'not labelled' });
    const pairs = ['K8S_POD_NAME=web', 'K8S_POD_NAMESPACE=shop', 'K8S_POD_UID=u1', 'IgnoreUnknown=1', 'K8S_POD_INFRA_CONTAINER_ID=c'];
    await fc.assert(
      fc.asyncProperty(fc.shuffledSubarray(pairs, { minLength: pairs.length }), async (shuffled) => {
        world.asked = [];
        await runVerb(context(conf(), { env: { CNI_ARGS: shuffled.join(';') } }));
        expect(world.asked[0]?.body).toMatchObject({ podName: 'web', podNamespace: 'shop', podUid: 'u1' });
      }),
      { numRuns: 20 },
    );
  });

  test('a sandbox that is no Kubernetes pod passes without a question', async () => {
    await agent(200, { enrolled: true, reason: '' });
    await runVerb(context(conf(), { env: { CNI_ARGS: '' } }));
    expect(world.asked).toEqual([]);
  });

  test.each([
    ['a prevResult of another shape', { prevResult: { ips: ['10.0.0.1'] } }, {}, 7, /prevResult\.ips/],
    ['truncated stdin', '{"cniVersion":"1.0.0","na', {}, 6, /decode stdin/],
    ['empty stdin', '', {}, 6, /it is empty/],
    ['stdin that is no object', '[1]', {}, 6, /not a JSON object/],
    ['an old version', { cniVersion: '0.2.0' }, {}, 1, /"0\.2\.0"/],
    ['a missing version', { cniVersion: undefined }, {}, 1, /"0\.1\.0"/],
    ['an unknown policy', { onAgentDown: 'maybe' }, {}, 7, /onAgentDown/],
    ['a relative directory', { runDir: 'run' }, {}, 7, /runDir/],
    ['no container id', {}, { CNI_CONTAINERID: '' }, 4, /CNI_CONTAINERID/],
    ['a bad container id', {}, { CNI_CONTAINERID: '../x' }, 4, /CNI_CONTAINERID/],
    ['no netns', {}, { CNI_NETNS: undefined }, 4, /CNI_NETNS/],
    ['a bad interface name', {}, { CNI_IFNAME: 'much-too-long-for-linux' }, 4, /CNI_IFNAME/],
    ['a broken CNI_ARGS', {}, { CNI_ARGS: 'K8S_POD_NAME' }, 4, /CNI_ARGS/],
    ['a pod without namespace', {}, { CNI_ARGS: 'K8S_POD_NAME=web' }, 4, /K8S_POD_NAMESPACE/],
    ['a verb of a later version', {}, { CNI_COMMAND: 'FINALIZE' }, 4, /FINALIZE is not a verb/],
    ['no network name', { name: undefined }, {}, 7, /read name/],
    ['a bad network name', { name: '../x' }, {}, 7, /read name/],
    ['addresses asked of us', { ipam: { type: 'host-local' } }, {}, 2, /ipam.*host-local/],
    ['an unknown status policy', { statusPolicy: 'never' }, {}, 7, /statusPolicy/],
    ['no verb', {}, { CNI_COMMAND: undefined }, 4, /CNI_COMMAND/],
  ] as const)('%s is refused', async (_, input, env, code, message) => {
    const error = await failure(context(typeof input === 'string' ? input : conf(input), { env }));
    expect(error.code).toBe(code);
    expect(error.msg).toMatch(message);
  });

  test('what the agent refuses names pod, cause and whether to retry', async () => {
    await agent(503, { error: { code: 'ZDS_NO_TUNNEL', message: 'enrol pod: no tunnel is connected', retryable: true } });
    const error = await failure(context(conf()));
    expect(error.code).toBe(11);
    expect(error.msg).toMatch(/shop\/web.*no tunnel is connected.*ZDS_NO_TUNNEL/);
    expect(error.details).toMatch(/tries again/);
  });
});

describe('ADD while the agent is away', () => {
  const known = JSON.stringify(snapshot);
  test.each([
    ['known', known, podArgs('legacy'), true],
    ['known', known, podArgs('shop'), false],
    ['known', known, podArgs('new'), false],
    ['known', known, podArgs('toString'), false],
    ['known', known, podArgs('kube-system'), true],
    ['known', known, podArgs('culvert', 'ztunnel-x1'), true],
    ['known', undefined, podArgs('legacy'), false],
    ['known', known.slice(0, 40), podArgs('legacy'), false],
    ['known', JSON.stringify({ ...snapshot, namespaces: { legacy: {} } }), podArgs('legacy'), false],
    ['closed', known, podArgs('legacy'), false],
    ['closed', known, podArgs('kube-system'), true],
    ['open', known, podArgs('shop'), true],
    ['open', undefined, podArgs('new'), true],
  ])('%s, snapshot %#: pass is %4$s', async (onAgentDown, file, env, pass) => {
    const input = context(conf({ onAgentDown }), { env, ...(file === undefined ? {} : { snapshot: file }) });
    if (pass) {
      await runVerb(input);
      expect(input.notes.join()).toMatch(/passed without the agent/);
    } else {
      const error = await failure(input);
      expect(error.code).toBe(100);
      expect(error.msg).toMatch(/does not answer/);
    }
  });

  test('an agent that never answers is away after the deadline', async () => {
    await agent(0, undefined);
    expect((await failure(context(conf()))).msg).toMatch(/no answer within 300 ms/);
  });

  test('an answer without sense is no answer', async () => {
    await agent(500, '<html>');
    expect((await failure(context(conf()))).code).toBe(100);
  });
});

describe('DEL', () => {
  test('tells the agent', async () => {
    await agent(200, {});
    expect(await runVerb(context(conf({ prevResult: undefined }), { env: { CNI_COMMAND: 'DEL' } }))).toBe('');
    expect(world.asked).toEqual([
      {
        path: '/v1/del',
        body: { containerId: 'c0ffee', netns: '/var/run/netns/a', ifname: 'eth0', podNamespace: 'shop', podName: 'web', podUid: 'u1' },
      },
    ]);
  });

  test.each([
    ['the agent away', {}, {}],
    ['everything empty', '', { CNI_CONTAINERID: '', CNI_NETNS: '', CNI_IFNAME: '', CNI_ARGS: '' }],
    ['garbage', '}{', { CNI_ARGS: ';;=' }],
    ['an unknown version', { cniVersion: '9.9.9' }, {}],
  ])('succeeds with %s', async (_, input, env) => {
    expect(await runVerb(context(typeof input === 'string' ? input : conf(input), { env: { CNI_COMMAND: 'DEL', ...env } }))).toBe('');
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
