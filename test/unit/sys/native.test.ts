import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { chmodSync, lstatSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { bpfObject } from '../../../src/sys/native.ts';
import { cacheRoots, unpack } from '../../../src/sys/unpack.ts';

const NATIVE = new URL('../../../src/sys/native.ts', import.meta.url).href;

describe('loading', () => {
  const load = (env: Record<string, string>): string => {
    const code = `import { native } from ${JSON.stringify(NATIVE)}; try { console.log(native.bpfPossibleCpus() > 0); } catch (error) { console.log(error.code, error.exit, error.message); }`;
    return execFileSync(process.execPath, ['--disable-warning=ExperimentalWarning', '--input-type=module', '--eval', code], {
      encoding: 'utf8',
      env: { PATH: process.env['PATH'], ...env },
    }).trim();
  };

  it('finds the addon of the tree, from any directory', () => {
    expect(load({})).toBe('true');
  });

  it('takes a named addon and no other', () => {
    expect(load({ CULVERT_ADDON: '/absent/culvert.node' })).toMatch(
      /^NATIVE_LOAD 1 load native addon: \/absent\/culvert\.node: .*remedy: .*CULVERT_ADDON/,
    );
    expect(load({ CULVERT_ADDON: '/dev/null' })).toMatch(/^NATIVE_LOAD 1 load native addon: \/dev\/null/);
  });

  it('takes a named BPF object and no other', () => {
    expect(() => bpfObject({ CULVERT_BPF_OBJECT: '/absent/x.o' })).toThrow(
      /read BPF object: .*\/absent\/x\.o.*remedy: .*CULVERT_BPF_OBJECT/,
    );
    expect(bpfObject({ CULVERT_BPF_OBJECT: process.execPath }).subarray(0, 4)).toEqual(Buffer.from('\x7fELF'));
  });
});

describe('unpacking', () => {
  const content = Buffer.from('what would be an addon');
  const hash = createHash('sha256').update(content).digest('hex');
  let directory: string;
  let failures: string[];
  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'cvt-addon-'));
    failures = [];
  });
  afterEach(() => {
    rmSync(directory, { recursive: true });
  });
  const unpackInto = (...roots: string[]): string =>
    unpack('culvert.node', content, roots, (root, error) => failures.push(`${root}: ${String(error)}`));

  it('makes a private file named by its content, once', () => {
    const root = join(directory, 'cache');
    const path = unpackInto(root);
    expect(path).toBe(join(root, hash, 'culvert.node'));
    expect(readFileSync(path)).toEqual(content);
    expect(lstatSync(path).mode & 0o777).toBe(0o500);
    expect(lstatSync(dirname(path)).mode & 0o777).toBe(0o700);
    const { ino } = lstatSync(path);
    expect(unpackInto(root)).toBe(path);
    expect(lstatSync(path).ino).toBe(ino);
  });

  it.each([
    ['another content', (path: string) => writeFileSync(path, 'something else')],
    ['a truncated copy', (path: string) => writeFileSync(path, content.subarray(0, 5))],
    ['a file that others may write', () => undefined, 0o777],
  ])('replaces %s', (_, spoil, mode = 0o700) => {
    const root = join(directory, 'cache');
    const path = unpackInto(root);
    chmodSync(path, 0o700);
    spoil(path);
    chmodSync(path, mode);
    expect(unpackInto(root)).toBe(path);
    expect(readFileSync(path)).toEqual(content);
    expect(lstatSync(path).mode & 0o777).toBe(0o500);
  });

  it('replaces a link, and does not write through it', () => {
    const root = join(directory, 'cache');
    const path = unpackInto(root);
    rmSync(path);
    writeFileSync(join(directory, 'elsewhere'), 'untouched');
    symlinkSync(join(directory, 'elsewhere'), path);
    unpackInto(root);
    expect(lstatSync(path).isFile()).toBe(true);
    expect(readFileSync(join(directory, 'elsewhere'), 'utf8')).toBe('untouched');
  });

  it('goes on to the next place when others can write to one, or it is none', () => {
    const open = join(directory, 'open');
    mkdirSync(open);
    chmodSync(open, 0o777);
    const linked = join(directory, 'linked');
    symlinkSync(directory, linked);
    writeFileSync(join(directory, 'file'), '');
    const good = join(directory, 'good');
    expect(unpackInto(open, linked, join(directory, 'file'), good)).toBe(join(good, hash, 'culvert.node'));
    expect(failures).toEqual([
      expect.stringContaining('can be written by others'),
      expect.stringContaining('no directory'),
      expect.stringMatching(/ENOTDIR|EEXIST/),
    ]);
  });

  it('falls back to a new private directory below the temporary one', () => {
    vi.stubEnv('TMPDIR', directory);
    const path = unpackInto();
    vi.unstubAllEnvs();
    expect(path.startsWith(`${directory}/culvert-`)).toBe(true);
    expect(readFileSync(path)).toEqual(content);
    expect(lstatSync(dirname(path)).mode & 0o777).toBe(0o700);
  });

  it("prefers the system's cache, then the user's", () => {
    expect(cacheRoots({ XDG_CACHE_HOME: '/x' })).toEqual(['/var/cache/culvert', '/x/culvert']);
  });
});
