import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { configHelp, loadConfig } from '../../../src/base/config.ts';

const schema = z.object({
  runDir: z.string().startsWith('/').describe('where the sockets are'),
  maxPods: z.int().min(1).default(500),
  dns: z.boolean().default(true),
  excluded: z.array(z.string()).default(['kube-system']),
});
const directory = mkdtempSync(join(tmpdir(), 'cvt-config-'));
afterAll(() => {
  rmSync(directory, { recursive: true });
});
const file = (text: string): string => {
  const path = join(directory, 'config.yaml');
  writeFileSync(path, text);
  return path;
};
const load = (args: string[], env: NodeJS.ProcessEnv = {}, defaultFile = join(directory, 'none.yaml')): z.infer<typeof schema> =>
  loadConfig(schema, { args, env, defaultFile, otherKeys: ['caDir'] });

describe('configuration', () => {
  it('takes file, then environment, then flags', () => {
    const path = file('runDir: /file\nmaxPods: 1\ncaDir: /of/the/tunnel\nexcluded: [a]\n');
    expect(load([], {}, path)).toEqual({ runDir: '/file', maxPods: 1, dns: true, excluded: ['a'] });
    expect(load([], { CULVERT_MAX_PODS: '2', CULVERT_DNS: 'false', CULVERT_EXCLUDED: 'x, y', CULVERT_CA_DIR: '/c' }, path)).toEqual({
      runDir: '/file',
      maxPods: 2,
      dns: false,
      excluded: ['x', 'y'],
    });
    expect(
      load(['--max-pods', '3', '--run-dir=/flag', '--dns', '--config', path], { CULVERT_MAX_PODS: '2', CULVERT_DNS: 'false' }),
    ).toMatchObject({ runDir: '/flag', maxPods: 3, dns: true });
  });

  it('leaves alone what is no configuration', () => {
    expect(load(['--run-dir', '/r'], { CULVERT_TEST_X: '1', CULVERT_ADDON: '/a', CULVERT_BPF_OBJECT: '/b', OTHER: 'x' })).toMatchObject({
      runDir: '/r',
    });
  });

  it.each([
    ['flag', ['--run-dri', '/r'], {}, '', 'flag --run-dri: "--run-dri" is unknown; the nearest is "--run-dir"'],
    [
      'variable',
      [],
      { CULVERT_MAXPODS: '1' },
      '',
      'variable CULVERT_MAXPODS: "CULVERT_MAXPODS" is unknown; the nearest is "CULVERT_MAX_PODS"',
    ],
    ['key', [], {}, 'rundir: /r', '"rundir" is unknown; the nearest is "runDir"'],
    ['missing', [], {}, '', 'runDir: missing; set it by --run-dir, CULVERT_RUN_DIR'],
    ['type', ['--run-dir', '/r', '--max-pods', 'many'], {}, '', 'found "many" in flag --max-pods'],
    ['no value', ['--run-dir'], {}, '', 'flag --run-dir: needs a value'],
    ['no flag', ['run'], {}, '', '"run" is no flag'],
    ['file of the wrong shape', [], {}, '- a', 'must hold keys and values'],
    ['file that is no YAML', [], {}, 'a: [', 'config.yaml'],
    ['named file that is not there', ['--config', '/nowhere/c.yaml'], {}, '', '/nowhere/c.yaml'],
  ])('names the fault: %s', (_, args, env, text, message) => {
    const read = (): unknown => load(args, env, text === '' ? undefined : file(text));
    expect(read).toThrow(message);
    expect(read).toThrow(expect.objectContaining({ code: 'CONFIG_INVALID' }) as Error);
  });

  it('explains itself', () => {
    expect(configHelp(schema)).toContain('--run-dir   where the sockets are');
  });
});
