import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { agentConfigSchema, checkAgentConfig } from '../../../src/agent/config.ts';
import { removeFiles } from '../../../src/agent/leftovers.ts';
import { Readiness } from '../../../src/agent/readiness.ts';
import { annotateIfPossible, decideFarewell } from '../../../src/agent/shutdown.ts';
import { loadConfig } from '../../../src/base/config.ts';
import type { KubeApi, KubeObject } from '../../../src/kubernetes/api.ts';
import { KubernetesError } from '../../../src/kubernetes/errors.ts';
import { silent } from '../../support/install.ts';

describe('what an agent leaves', () => {
  const asking = (answer: KubeObject | number | undefined): KubeApi =>
    ({
      get: () => (typeof answer === 'number' ? Promise.reject(new KubernetesError('get', { status: answer })) : Promise.resolve(answer)),
    }) as unknown as KubeApi;
  const question = { node: 'n1', daemonSet: 'mesh/agent', ownConfig: false as boolean | string, safeUpgrade: true };
  const present = { metadata: { name: 'agent' }, spec: { template: { spec: {} } } };

  it.each<[string, Partial<typeof question>, KubeApi | undefined, string]>([
    ['an upgrade', {}, asking(present), 'leave leave'],
    ['its DaemonSet gone', {}, asking(undefined), 'clean up clean up'],
    ['its account gone', {}, asking(401), 'clean up clean up'],
    ['no answer', {}, asking(500), 'clean up leave'],
    ['nobody to ask', {}, undefined, 'leave leave'],
    ['safe upgrades off', { safeUpgrade: false }, asking(present), 'clean up clean up'],
    ['own configuration, gone', { ownConfig: 'x.conflist' }, asking(undefined), 'clean up clean up'],
  ])('with %s', async (_, over, api, expected) => {
    const { plugin, datapath } = await decideFarewell({ ...question, ...over }, api, silent);
    expect(`${plugin} ${datapath}`).toBe(expected);
  });

  it('annotations are written if possible', async () => {
    const written: string[] = [];
    const pod = { uid: 'u', namespace: 's', name: 'a' };
    await annotateIfPossible((_, key) => Promise.resolve(void written.push(key)), silent)(pod, 'k', undefined);
    await annotateIfPossible(() => Promise.reject(new KubernetesError('patch', { status: 403 })), silent)(pod, 'k', undefined);
    expect(written).toEqual(['k']);
  });

  it("files go, what is not the agent's stays, twice is once", () => {
    const directory = mkdtempSync(join(tmpdir(), 'cvt-left-'));
    const places = { runDir: join(directory, 'run'), stateDir: join(directory, 'state'), zdsSocket: join(directory, 'zds/z.sock') };
    for (const each of ['run/attachments', 'state', 'zds']) mkdirSync(join(directory, each), { recursive: true });
    for (const each of [
      'run/cni.sock',
      'run/ztunnel-admin.sock',
      'run/attachments/a',
      'state/enrolment.json',
      'state/instance',
      'zds/z.sock',
    ])
      writeFileSync(join(directory, each), '');
    removeFiles(places);
    removeFiles(places);
    expect(existsSync(join(directory, 'run/ztunnel-admin.sock'))).toBe(true);
    for (const gone of ['run/cni.sock', 'run/attachments', 'state', 'zds']) expect(existsSync(join(directory, gone)), gone).toBe(false);
    rmSync(directory, { recursive: true });
  });
});

describe('readiness', () => {
  it('is denied from the first moment, and needs everything', () => {
    const readiness = new Readiness();
    let why: string | undefined = 'no plugin';
    readiness.needs(() => why);
    readiness.needs(() => undefined);
    expect(readiness.reasons).toEqual(['starting: the agent has just started']);
    readiness.starting('installing');
    expect(readiness.reasons).toEqual(['starting: installing']);
    readiness.started();
    expect(readiness.reasons).toEqual(['no plugin']);
    why = undefined;
    expect(readiness.reasons).toEqual([]);
  });
});

describe('settings', () => {
  const load = (args: string[], env: NodeJS.ProcessEnv = {}) =>
    loadConfig(agentConfigSchema, { args: ['--node', 'n1', ...args], env, defaultFile: '/nonexistent' });
  it.each([
    [[], /meshFile: source file needs it/],
    [['--source', 'kubernetes', '--metrics-port', '8000'], /metricsPort: must differ from healthPort, found 8000 in both/],
    [['--source', 'kubernetes', '--install-plugin', '--plugin-path', '/nonexistent'], /pluginPath: ENOENT/],
    [['--source', 'kubernetes', '--install-plugin', '--plugin-path', '/tmp'], /pluginPath: must be a file, found "\/tmp"/],
  ])('that need each other: %j', (args, message) => {
    expect(() => checkAgentConfig(load(args))).toThrow(message);
  });
  it('are refused one by one', () => {
    expect(() => load(['--daemon-set', 'agent'])).toThrow('daemonSet: must be "namespace/name", found "agent" in flag --daemon-set');
    expect(() => load(['--metrics-port', '70000'])).toThrow(/metricsPort: .*found "70000"/);
    expect(() => load(['--own-config', 'x.json'])).toThrow(/ownConfig: /);
  });
  it('ownConfig is yes, no, or a name', () => {
    expect(load([]).ownConfig).toBe(false);
    expect(load(['--own-config']).ownConfig).toBe(true);
    expect(load([], { CULVERT_OWN_CONFIG: 'true' }).ownConfig).toBe(true);
    expect(load(['--own-config', '00-x.conflist']).ownConfig).toBe('00-x.conflist');
    expect(load(['--source', 'kubernetes'])).toMatchObject({ metricsPort: 15014, healthPort: 8000, procRoot: '/proc', safeUpgrade: true });
  });
});
