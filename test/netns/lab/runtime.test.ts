import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import {
  addNetwork,
  checkNetwork,
  collectGarbage,
  delNetwork,
  PluginFailed,
  type ChainEnvironment,
} from '../../../src/lab/chain/runtime.ts';

describe('runtime of the chain', () => {
  const script = (name: string, body: string): string =>
    `#!/bin/sh\necho "${name} $CNI_COMMAND $CNI_IFNAME $CNI_ARGS $(cat)" >> "$(dirname "$0")/log"\n${body}\n`;

  function chain(dir: string, bodies: Record<string, string>): ChainEnvironment {
    for (const [name, body] of Object.entries(bodies)) writeFileSync(join(dir, name), script(name, body), { mode: 0o755 });
    const plugins = Object.keys(bodies).map((type) => ({ type, own: type }));
    return {
      conflist: { cniVersion: '1.0.0', name: 'net', plugins },
      nodeNetns: '/proc/self/ns/net',
      cniPath: [dir],
      cacheDir: join(dir, 'cache'),
    };
  }
  const sandbox = { containerId: 'c1', netns: '/n', ifname: 'eth0', args: { K8S_POD_NAME: 'a' } };
  const inDir = async (act: (dir: string) => Promise<void>): Promise<void> => {
    const dir = mkdtempSync(join(tmpdir(), 'culvert-chain-'));
    try {
      await act(dir);
    } finally {
      rmSync(dir, { recursive: true });
    }
  };

  test('ADD hands each result on, DEL goes backwards with the last one', async () => {
    await inDir(async (dir) => {
      const first = `[ $CNI_COMMAND != ADD ] || echo '{"cniVersion":"1.0.0","ips":[{"address":"10.0.0.2/24"}],"from":"first"}'`;
      const env = chain(dir, { first, second: `[ $CNI_COMMAND != ADD ] || echo '{"cniVersion":"1.0.0","ips":[],"from":"second"}'` });
      expect(await addNetwork(env, sandbox)).toEqual({ cniVersion: '1.0.0', ips: [], from: 'second' });
      await checkNetwork(env, sandbox);
      await delNetwork(env, sandbox);
      await collectGarbage(env, [sandbox]);
      const log = readFileSync(join(dir, 'log'), 'utf8').trim().split('\n');
      expect(log.map((line) => line.split(' ').slice(0, 4).join(' '))).toEqual([
        'first ADD eth0 K8S_POD_NAME=a',
        'second ADD eth0 K8S_POD_NAME=a',
        'first CHECK eth0 K8S_POD_NAME=a',
        'second CHECK eth0 K8S_POD_NAME=a',
        'second DEL eth0 K8S_POD_NAME=a',
        'first DEL eth0 K8S_POD_NAME=a',
        expect.stringMatching(/^first GC /),
        expect.stringMatching(/^second GC /),
      ]);
      const stdin = log.map((line) => JSON.parse(line.slice(line.indexOf('{'))) as Record<string, unknown>);
      expect(stdin[0]).toEqual({ type: 'first', own: 'first', name: 'net', cniVersion: '1.0.0' });
      expect(stdin[1]).toMatchObject({ type: 'second', prevResult: { from: 'first' } });
      for (const each of stdin.slice(2, 6)) expect(each).toMatchObject({ prevResult: { from: 'second' } });
      const valid = [{ containerID: 'c1', ifname: 'eth0' }];
      expect(stdin[6]).toEqual({
        ...{ type: 'first', own: 'first', name: 'net', cniVersion: '1.0.0' },
        ...{ 'cni.dev/valid-attachments': valid, 'cni.dev/attachments': valid },
      });
    });
  });

  test('the error of a plugin keeps code and remedy', async () => {
    await inDir(async (dir) => {
      const env = chain(dir, { bad: `echo '{"cniVersion":"1.0.0","code":100,"msg":"no","details":"try"}'; exit 1` });
      const error: unknown = await addNetwork(env, sandbox).catch((reason: unknown) => reason);
      expect(error).toBeInstanceOf(PluginFailed);
      expect(error).toMatchObject({ plugin: 'bad', cniCode: 100, message: expect.stringContaining('no; try') as string });
    });
  });
});
