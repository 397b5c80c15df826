import { execFile } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { host, kindnet, type Host } from '../../support/install.ts';

let on: Host;
beforeEach(() => {
  on = host();
  mkdirSync(on.binDir);
  on.write('10-kindnet.conflist', kindnet);
});
afterEach(() => {
  on.remove();
});

/** `culvert install` with `directory` mounted read-only over itself, in a mount namespace that ends with it. */
function installWithReadOnly(directory: string): Promise<{ code: unknown; err: string }> {
  const script = 'mount --bind "$1" "$1" && mount -o remount,bind,ro "$1" && shift && exec "$@"';
  const culvert = [
    process.execPath,
    'src/main.ts',
    'install',
    '--plugin',
    on.plugin,
    '--cni-bin-dir',
    on.binDir,
    '--cni-conf-dir',
    on.confDir,
  ];
  return new Promise((resolve) => {
    execFile('unshare', ['-m', 'sh', '-c', script, 'sh', directory, ...culvert], (error, _, err) => {
      resolve({ code: error?.code ?? 0, err });
    });
  });
}

test('a read-only directory of plugins is refused with a remedy, and nothing is chained', async () => {
  const { code, err } = await installWithReadOnly(on.binDir);
  expect(err).toContain(`write ${join(on.binDir, 'culvert-cni')}: the file system is read-only; name the directory`);
  expect(code).toBe(1);
  expect(on.read('10-kindnet.conflist')).toBe(kindnet);
});

test('so is a read-only directory of configurations', async () => {
  const { code, err } = await installWithReadOnly(on.confDir);
  expect(err).toContain(`write ${join(on.confDir, '10-kindnet.conflist')}: the file system is read-only`);
  expect(code).toBe(1);
});
