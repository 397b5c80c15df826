import { mkdirSync, renameSync, rmSync, statSync, unlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import type { Logger } from '../../../src/base/log.ts';
import { Installation, type InstallationOptions, type InstallationState } from '../../../src/install/installation.ts';
import { Throttle } from '../../../src/install/throttle.ts';
import { host, kindnet, settings, silent, type Host } from '../../support/install.ts';

const until = (check: () => void): Promise<void> => vi.waitFor(check, { timeout: 8_000, interval: 5 });

let on: Host;
let installation: Installation | undefined;
let states: InstallationState[];
beforeEach(() => {
  on = host();
  states = [];
});
afterEach(async () => {
  await installation?.close();
  installation = undefined;
  on.remove();
});

interface More extends Partial<InstallationOptions> {
  log?: Logger;
  throttle?: Throttle;
}

async function install({ log = silent, throttle, ...more }: More = {}): Promise<Installation> {
  const options = { plugin: on.plugin, binDir: on.binDir, confDir: on.confDir, settings, ...more };
  installation = new Installation(options, log, { onChange: (state) => states.push(state) }, throttle);
  await installation.start();
  return installation;
}

const joined = (name: string): void => expect(on.read(name)).toContain('culvert-cni');
const executable = (): string => join(on.binDir, 'culvert-cni');

/** A logger that keeps its warnings. */
function listening(): { log: Logger; warnings: string[] } {
  const warnings: string[] = [];
  const log = { ...silent, info: () => undefined, warn: (_: object, message: string) => warnings.push(message) };
  return { log: log as unknown as Logger, warnings };
}

describe('installs', () => {
  test('at once where there is a configuration', async () => {
    on.write('10-kindnet.conflist', kindnet);
    const { state, installs } = await install();
    expect(state).toEqual({ ready: true, file: '10-kindnet.conflist', reason: '' });
    expect(installs).toEqual({ SUCCESS: 1, COPY_BINARIES_FAILURE: 0, CREATE_CNI_CONFIG_FAILURE: 0 });
    expect(statSync(executable()).mode & 0o777).toBe(0o755);
  });

  test('as soon as there is one; the executable is there before', async () => {
    expect((await install()).state).toMatchObject({ ready: false, reason: expect.stringContaining('waiting') as string });
    expect(statSync(executable()).isFile()).toBe(true);
    on.write('10-kindnet.conflist', kindnet);
    await until(() => expect(installation?.ready).toBe(true));
    joined('10-kindnet.conflist');
    expect(states.map(({ ready }) => ready)).toEqual([false, true]);
  });

  test('as soon as there is a directory', async () => {
    rmSync(on.confDir, { recursive: true });
    await install();
    mkdirSync(on.confDir);
    on.write('10-kindnet.conflist', kindnet);
    await until(() => expect(installation?.ready).toBe(true));
  });

  test('as soon as the only one is no longer damaged; says which it is', async () => {
    on.write('10-kindnet.conflist', kindnet.slice(0, 50));
    expect((await install()).state).toMatchObject({
      ready: false,
      reason: expect.stringMatching(
        /^waiting: there is no network configuration in \S+ yet; 10-kindnet\.conflist: it is not JSON/,
      ) as string,
    });
    on.write('10-kindnet.conflist', kindnet);
    await until(() => expect(installation?.state).toEqual({ ready: true, file: '10-kindnet.conflist', reason: '' }));
  });

  test('nothing where an operator is needed, and says so', async () => {
    on.write('10-kindnet.conflist', kindnet);
    await expect(install({ plugin: '/nonexistent/culvert-cni' })).rejects.toMatchObject({ code: 'SYSTEM' });
    expect(installation?.installs.COPY_BINARIES_FAILURE).toBe(1);
    await expect(install({ ownConfig: '99-late.conflist' })).rejects.toMatchObject({ code: 'CONFIG_INVALID' });
    expect(installation?.installs.CREATE_CNI_CONFIG_FAILURE).toBe(1);
    expect(on.read('10-kindnet.conflist')).toBe(kindnet);
  });
});

describe('repairs', () => {
  beforeEach(() => {
    on.write('10-kindnet.conflist', kindnet);
  });

  test('an entry that was taken out', async () => {
    await install();
    on.write('10-kindnet.conflist', kindnet);
    await until(() => joined('10-kindnet.conflist'));
  });

  test('an executable that was removed or changed', async () => {
    await install();
    unlinkSync(executable());
    await until(() => expect(statSync(executable()).size).toBe(10));
    writeFileSync(executable(), '#!/bin/zh\n');
    await until(() => expect(installation?.installs.SUCCESS).toBe(3));
  });

  test('another file that came before ours', async () => {
    await install();
    on.write('05-cilium.conflist', kindnet);
    await until(() => joined('05-cilium.conflist'));
    await until(() => expect(installation?.state.file).toBe('05-cilium.conflist'));
  });

  test('a directory that was put in the place of the watched one, twice', async () => {
    await install();
    for (const round of [1, 2]) {
      renameSync(on.confDir, join(on.root, `old-${round}`));
      mkdirSync(on.confDir);
      on.write('10-kindnet.conflist', kindnet);
      await until(() => joined('10-kindnet.conflist'));
    }
  });

  test('the own file when the primary changes, and when it is removed', async () => {
    await install({ ownConfig: '02-culvert.conflist' });
    on.write('10-kindnet.conflist', kindnet.replace('portmap', 'tuning'));
    await until(() => expect(on.read('02-culvert.conflist')).toContain('tuning'));
    unlinkSync(join(on.confDir, '02-culvert.conflist'));
    await until(() => joined('02-culvert.conflist'));
    expect(on.read('10-kindnet.conflist')).not.toContain('culvert-cni');
  });

  test('waits again when the configuration is gone, and joins the next', async () => {
    await install();
    unlinkSync(join(on.confDir, '10-kindnet.conflist'));
    await until(() => expect(installation?.ready).toBe(false));
    on.write('20-calico.conflist', kindnet);
    await until(() => expect(installation?.state.file).toBe('20-calico.conflist'));
  });

  test('a configuration that was damaged, once it is well again; says so once', async () => {
    const { log, warnings } = listening();
    await install({ confName: '10-kindnet.conflist', log });
    on.write('10-kindnet.conflist', '{"name":');
    await until(() => expect(installation?.ready).toBe(false));
    expect(installation?.state.reason).toContain('not JSON');
    expect(on.read('10-kindnet.conflist')).toBe('{"name":');
    on.write('10-kindnet.conflist', kindnet);
    await until(() => joined('10-kindnet.conflist'));
    await until(() => expect(installation?.ready).toBe(true));
    expect(warnings).toEqual(['installation failed, will be tried again']);
  });

  test('without losing what its owner writes meanwhile', async () => {
    await install({ throttle: new Throttle({ free: 1_000, quickMs: 60_000, firstDelayMs: 1, maxDelayMs: 1 }) });
    for (let mtu = 1; mtu <= 300; mtu++) {
      on.write('.next', kindnet.replace('1500', String(mtu)));
      renameSync(join(on.confDir, '.next'), join(on.confDir, '10-kindnet.conflist'));
      if (mtu % 10 === 0) await new Promise(setImmediate);
    }
    await until(() => {
      joined('10-kindnet.conflist');
      expect(on.read('10-kindnet.conflist')).toContain('"mtu": 300');
    });
  });

  test('nothing after it was closed', async () => {
    const { installs } = await install();
    await installation?.close();
    on.write('10-kindnet.conflist', kindnet);
    const second = host(); // as much time as another installation takes
    await new Installation({ plugin: second.plugin, binDir: second.binDir, confDir: second.confDir, settings }, silent)
      .start()
      .finally(() => 0);
    expect(on.read('10-kindnet.conflist')).toBe(kindnet);
    expect(installs.SUCCESS).toBe(1);
    second.remove();
  });

  test('ever more slowly while somebody else undoes it, with one hint', async () => {
    const { log, warnings } = listening();
    const throttle = new Throttle({ free: 2, quickMs: 60_000, firstDelayMs: 100, maxDelayMs: 400 });
    await install({ log, throttle });
    for (let round = 1; round <= 5; round++) {
      on.write('10-kindnet.conflist', kindnet);
      await until(() => expect(installation?.installs.SUCCESS).toBe(round + 1));
    }
    expect(warnings).toEqual([expect.stringContaining('cni.exclusive=false')]);
    expect(throttle.delay()).toBe(400);
  });
});

test('the throttle counts what was quick', () => {
  let now = 0;
  const throttle = new Throttle({ free: 5, quickMs: 1_000, firstDelayMs: 10, maxDelayMs: 35 }, () => now);
  const told = Array.from({ length: 9 }, () => [throttle.repaired(), throttle.delay()]);
  expect(told.slice(0, 5)).toEqual(Array.from({ length: 5 }, () => [false, 0]));
  expect(told.slice(5)).toEqual([[true, 10], [false, 20], [false, 35], [false, 35]]); // prettier-ignore
  now = 1_001;
  expect(throttle.delay()).toBe(0);
  expect(throttle.repaired()).toBe(false);
});
