/** What docs/privileges.md grants the agent is enough for all it does, and none of it is too much. */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { NEEDED_CAPABILITIES } from '../../../src/agent/checks/capabilities.ts';
import type { VerifyResult } from '../../../src/agent/api.ts';
import { kindnet } from '../../support/install.ts';
import { settingsOf, type TestPod } from '../../support/netns.ts';
import { AgentScene, stop, until } from './scene.ts';

describe('privileges of the agent', () => {
  let scene: AgentScene;
  let a: TestPod;
  let before: string;
  const path = (...parts: string[]): string => join(scene.dir, ...parts);
  const start = (capabilities: string[]): ReturnType<AgentScene['startAgent']> => {
    scene.agentCapabilities = capabilities;
    return scene.startAgent([
      ...['--install-plugin', '--plugin-path', path('built'), '--cni-bin-dir', path('bin'), '--cni-conf-dir', path('net.d')],
      ...['--grace-cap-ms', '1000', '--safe-upgrade=false'],
    ]);
  };

  beforeAll(async () => {
    scene = await AgentScene.create('priv');
    a = await scene.pod('a', 41);
    before = settingsOf(a.netnsName);
    writeFileSync(path('built'), '#!/bin/sh\n');
    mkdirSync(path('net.d'));
    writeFileSync(path('net.d/10-kindnet.conflist'), kindnet);
    scene.label('ambient');
  });
  afterAll(async () => {
    await scene.close();
    expect(existsSync(scene.dir)).toBe(false);
  });

  it('suffice to install, enrol, verify and leave nothing', async () => {
    const agent = await start(NEEDED_CAPABILITIES);
    const effective = /^CapEff:\s*(\w+)$/m.exec(readFileSync(`/proc/${String(agent.pid)}/status`, 'utf8'))?.[1] ?? '';
    expect(BigInt(`0x${effective}`).toString(2).replaceAll('0', '')).toHaveLength(NEEDED_CAPABILITIES.length);
    const tunnel = scene.startTunnel();
    await scene.pods({ a: 'enrolled active' });
    await until(async () => (await scene.status()).install?.ready === true, () => scene.log); // prettier-ignore
    expect(await scene.cni('add', a)).toMatchObject({ status: 200, body: { enrolled: true } });
    const [verified] = await scene.ask<VerifyResult[]>({ op: 'verify' });
    expect(verified, JSON.stringify(verified)).toMatchObject({ ok: true });
    expect(scene.log).not.toMatch(/EPERM|EACCES|tunnel can not be told/);
    expect(await stop(agent, 'SIGTERM'), scene.log).toBe(0);
    expect(settingsOf(a.netnsName)).toBe(before);
    expect(existsSync(path('bin/culvert-cni'))).toBe(false);
    await stop(tunnel, 'SIGKILL');
  });

  it.each(NEEDED_CAPABILITIES)('without %s it does not start, and says so', async (without) => {
    const agent = await start(NEEDED_CAPABILITIES.filter((name) => name !== without));
    await until(() => agent.exitCode !== null, () => scene.log); // prettier-ignore
    expect(agent.exitCode).toBe(1);
    expect(scene.log).toMatch(new RegExp(`capabilities: missing: ${without} \\(remedy: run as root with capabilities`));
  });
});
