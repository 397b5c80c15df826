import { chmodSync, lstatSync, mkdirSync, readFileSync, statSync, symlinkSync, unlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { readConfDirectory } from '../../../src/install/conf-directory.ts';
import { installConf, uninstall, type ConfOptions, type ConfResult } from '../../../src/install/host.ts';
import { host, kindnet, settings, unprivileged, type Host } from '../../support/install.ts';

let on: Host;
beforeEach(() => {
  on = host();
});
afterEach(() => {
  on.remove();
});

const install = (more: Partial<ConfOptions> = {}): Promise<ConfResult> => installConf({ confDir: on.confDir, settings, ...more });
const types = (name: string): string[] => (JSON.parse(on.read(name)) as { plugins: { type: string }[] }).plugins.map(({ type }) => type);
const off = (): ReturnType<typeof uninstall> => uninstall({ binDir: on.binDir, confDir: on.confDir });
const OURS = ['ptp', 'portmap', 'culvert-cni'];

describe('joining', () => {
  test('the first valid file by name; its mode stays; a second time writes nothing', async () => {
    on.write('20-other.conflist', kindnet);
    on.write('10-kindnet.conflist', kindnet, 0o640);
    on.write('00-readme.txt', 'no configuration');
    expect(await install()).toEqual({ file: '10-kindnet.conflist', changed: ['10-kindnet.conflist'], skipped: [] });
    expect(types('10-kindnet.conflist')).toEqual(OURS);
    expect(on.read('20-other.conflist')).toBe(kindnet);
    const { ino, mode } = statSync(join(on.confDir, '10-kindnet.conflist'));
    expect(mode & 0o7777).toBe(0o640);
    expect((await install()).changed).toEqual([]);
    expect(statSync(join(on.confDir, '10-kindnet.conflist')).ino).toBe(ino);
    expect(on.names()).toEqual(['00-readme.txt', '10-kindnet.conflist', '20-other.conflist']);
  });

  test('a single plugin: its file becomes a list, and is itself again afterwards', async () => {
    const single = '{"cniVersion":"0.4.0","name":"b","type":"bridge"}';
    on.write('10-b.conf', single, 0o600);
    expect(await install()).toMatchObject({ file: '10-b.conflist', changed: ['10-b.conflist', '10-b.conf'] });
    expect(on.names()).toEqual(['10-b.conflist']);
    expect(statSync(join(on.confDir, '10-b.conflist')).mode & 0o7777).toBe(0o600);
    expect(await off()).toEqual({ files: ['10-b.conflist'], executable: false });
    expect(on.names()).toEqual(['10-b.conf']);
    expect(JSON.parse(on.read('10-b.conf'))).toEqual(JSON.parse(single));
  });

  test('a single plugin that its owner wrote again is joined again, and kept when we leave', async () => {
    on.write('10-b.conf', '{"type":"bridge","mtu":1}');
    await install();
    on.write('10-b.conf', '{"type":"bridge","mtu":2}');
    await install();
    expect(on.names()).toEqual(['10-b.conflist']);
    expect(on.read('10-b.conflist')).toContain('"mtu": 2');
    on.write('10-b.conf', '{"type":"bridge","mtu":3}');
    await off();
    expect(on.names()).toEqual(['10-b.conf']);
    expect(on.read('10-b.conf')).toBe('{"type":"bridge","mtu":3}');
  });

  test('a list of somebody else is not overwritten by one that we make', async () => {
    on.write('10-b.conf', '{"type":"bridge"}');
    on.write('10-b.conflist', kindnet);
    await expect(install()).rejects.toMatchObject({
      code: 'CONFLIST_INVALID',
      message: expect.stringContaining('belongs to somebody else') as string,
    });
    expect(on.read('10-b.conflist')).toBe(kindnet);
    expect(on.read('10-b.conf')).toBe('{"type":"bridge"}');
  });

  test.each(['20-b.conflist', '20-b.conf'])('the configured name, as %s', async (confName) => {
    on.write('10-kindnet.conflist', kindnet);
    on.write('20-b.conflist', kindnet);
    expect(await install({ confName })).toMatchObject({ file: '20-b.conflist', changed: ['20-b.conflist'] });
    expect(on.read('10-kindnet.conflist')).toBe(kindnet);
  });

  test('a configured name that is not there is waited for', async () => {
    on.write('10-kindnet.conflist', kindnet);
    expect(await install({ confName: '20-b.conf' })).toEqual({ file: undefined, skipped: [], changed: [] });
  });

  test('a link stays one', async () => {
    const real = join(on.root, 'real.conflist');
    writeFileSync(real, kindnet);
    symlinkSync(real, join(on.confDir, '10-kindnet.conflist'));
    await install();
    expect(lstatSync(join(on.confDir, '10-kindnet.conflist')).isSymbolicLink()).toBe(true);
    expect(readFileSync(real, 'utf8')).toContain('culvert-cni');
    await off();
    expect(JSON.parse(readFileSync(real, 'utf8'))).toEqual(JSON.parse(kindnet));
  });

  test('other settings are written', async () => {
    on.write('10-kindnet.conflist', kindnet);
    await install();
    expect((await install({ settings: { ...settings, statusPolicy: 'agent-ready' } })).changed).toEqual(['10-kindnet.conflist']);
    expect(types('10-kindnet.conflist')).toEqual(OURS);
  });
});

describe('own configuration', () => {
  const own = '02-culvert.conflist';

  test('is a copy before the primary, which stays as it is; rewritten when that changes', async () => {
    on.write('10-kindnet.conflist', kindnet);
    expect(await install({ ownConfig: own })).toMatchObject({ file: own, changed: [own] });
    expect(types(own)).toEqual(OURS);
    expect(statSync(join(on.confDir, own)).mode & 0o7777).toBe(0o600);
    expect(on.read('10-kindnet.conflist')).toBe(kindnet);
    expect((await install({ ownConfig: own })).changed).toEqual([]);
    on.write('10-kindnet.conflist', kindnet.replace('portmap', 'tuning'));
    expect((await install({ ownConfig: own })).changed).toEqual([own]);
    expect(types(own)).toEqual(['ptp', 'tuning', 'culvert-cni']);
  });

  test('stays while the primary is away: pods must not start outside the mesh', async () => {
    on.write('10-kindnet.conflist', kindnet);
    await install({ ownConfig: own });
    unlinkSync(join(on.confDir, '10-kindnet.conflist'));
    expect(await install({ ownConfig: own })).toEqual({ file: undefined, skipped: [], changed: [] });
    expect(on.names()).toEqual([own]);
  });

  test('is mended when it is damaged', async () => {
    on.write('10-kindnet.conflist', kindnet);
    on.write(own, '{"name":');
    expect(await install({ ownConfig: own })).toMatchObject({ file: own, changed: [own] });
    expect(types(own)).toEqual(OURS);
  });

  test.each(['10-kindnet.conflist', '99-culvert.conflist', '02-culvert.conf', '../02-culvert.conflist'])(
    'is refused as %s',
    async (ownConfig) => {
      on.write('10-kindnet.conflist', kindnet);
      await expect(install({ ownConfig })).rejects.toMatchObject({ code: 'CONFIG_INVALID', exit: 2 });
      expect(on.names()).toEqual(['10-kindnet.conflist']);
    },
  );

  test('goes when the mode changes, and on uninstall', async () => {
    on.write('10-kindnet.conflist', kindnet);
    await install({ ownConfig: own });
    expect((await install()).changed).toEqual(['10-kindnet.conflist', own]);
    expect(on.names()).toEqual(['10-kindnet.conflist']);
    await install({ ownConfig: '01-other.conflist' });
    expect(await off()).toMatchObject({ files: ['01-other.conflist', '10-kindnet.conflist'] });
    expect(on.names()).toEqual(['10-kindnet.conflist']);
    expect(JSON.parse(on.read('10-kindnet.conflist'))).toEqual(JSON.parse(kindnet));
    expect(await off()).toEqual({ files: [], executable: false });
  });
});

describe('unchained', () => {
  const unchained = (more: Partial<ConfOptions> = {}): Promise<ConfResult> => install({ chained: false, ...more });

  test('joins nothing, and makes a network beside the others', async () => {
    on.write('10-kindnet.conflist', kindnet);
    expect(await unchained()).toEqual({ file: 'YYY-culvert-cni.conf', changed: ['YYY-culvert-cni.conf'], skipped: [] });
    expect(on.read('10-kindnet.conflist')).toBe(kindnet);
    expect(JSON.parse(on.read('YYY-culvert-cni.conf'))).toMatchObject({ cniVersion: '0.3.1', type: 'culvert-cni', ...settings });
    expect(statSync(join(on.confDir, 'YYY-culvert-cni.conf')).mode & 0o7777).toBe(0o600);
    expect((await unchained()).changed).toEqual([]);
    expect(await off()).toEqual({ files: ['YYY-culvert-cni.conf'], executable: false });
    expect(on.names()).toEqual(['10-kindnet.conflist']);
  });

  test('needs no network before it, and no directory', async () => {
    const confDir = join(on.root, 'multus/net.d');
    expect(await unchained({ confDir, confName: 'mesh.conf' })).toMatchObject({ file: 'mesh.conf', changed: ['mesh.conf'] });
    expect(JSON.parse(readFileSync(join(confDir, 'mesh.conf'), 'utf8'))).toMatchObject({ name: 'culvert-cni' });
  });

  test('mends its file, and writes other settings', async () => {
    on.write('YYY-culvert-cni.conf', '{"cniVersion":"0.3');
    expect((await unchained()).changed).toEqual(['YYY-culvert-cni.conf']);
    expect((await unchained({ settings: { ...settings, onAgentDown: 'closed' } })).changed).toEqual(['YYY-culvert-cni.conf']);
    expect(on.read('YYY-culvert-cni.conf')).toContain('"closed"');
  });

  test('takes the entry out of the chain, and the other way round', async () => {
    on.write('10-kindnet.conflist', kindnet);
    await install({ ownConfig: '02-culvert.conflist' });
    await install();
    expect((await unchained()).changed).toEqual(['YYY-culvert-cni.conf', '10-kindnet.conflist']);
    expect(JSON.parse(on.read('10-kindnet.conflist'))).toEqual(JSON.parse(kindnet));
    expect(await install()).toMatchObject({ file: '10-kindnet.conflist', changed: ['10-kindnet.conflist', 'YYY-culvert-cni.conf'] });
    expect(on.names()).toEqual(['10-kindnet.conflist']);
  });

  test('is never the network that is joined', async () => {
    await unchained({ confName: '00-culvert.conf' });
    on.write('10-kindnet.conflist', kindnet);
    expect(await install()).toMatchObject({ file: '10-kindnet.conflist' });
  });

  test.each(['YYY-culvert.conflist', 'YYY-culvert', '../YYY-culvert.conf'])('is refused as %s', async (confName) => {
    await expect(unchained({ confName })).rejects.toMatchObject({
      code: 'CONFIG_INVALID',
      message: expect.stringContaining(`"${confName}"`) as string,
    });
    expect(on.names()).toEqual([]);
  });

  test('is refused together with an own configuration, and in the place of somebody else', async () => {
    await expect(unchained({ ownConfig: '02-culvert.conflist' })).rejects.toMatchObject({ code: 'CONFIG_INVALID' });
    on.write('10-b.conf', '{"type":"bridge"}');
    await expect(unchained({ confName: '10-b.conf' })).rejects.toMatchObject({ code: 'CONFLIST_INVALID' });
    expect(on.names()).toEqual(['10-b.conf']);
    expect(on.read('10-b.conf')).toBe('{"type":"bridge"}');
  });
});

describe('bad input', () => {
  /** what stands before the file that is joined */
  const bad: Record<string, [make: (path: string) => void, fault: RegExp]> = {
    'an empty file': [(path) => writeFileSync(path, ''), /it is empty/],
    'a truncated file': [(path) => writeFileSync(path, kindnet.slice(0, 50)), /not JSON/],
    'no JSON': [(path) => writeFileSync(path, 'cniVersion: 1.0.0'), /not JSON/],
    'no text': [(path) => writeFileSync(path, Buffer.from([0x7b, 0xff, 0xfe])), /not UTF-8/],
    'a directory': [(path) => mkdirSync(path), /a directory/],
    'a link to nothing': [(path) => symlinkSync('/nonexistent/net', path), /a symbolic link to nothing/],
    'a link to itself': [(path) => symlinkSync(path, path), /ELOOP/],
    'a device without end': [(path) => symlinkSync('/dev/zero', path), /no regular file/],
    'a file too large': [(path) => writeFileSync(path, ' '.repeat((1 << 20) + 1)), /1048577 bytes/],
  };

  test.each(Object.entries(bad))('%s is skipped with its fault, as configured file refused', async (_, [make, fault]) => {
    make(join(on.confDir, '00-bad.conflist'));
    on.write('10-kindnet.conflist', kindnet);
    const { file, skipped } = await install();
    expect(file).toBe('10-kindnet.conflist');
    expect(skipped).toEqual([{ name: '00-bad.conflist', faults: [expect.stringMatching(fault)] }]);
    const before = lstatSync(join(on.confDir, '00-bad.conflist')).ino;
    await expect(install({ confName: '00-bad.conf' })).rejects.toThrow(fault);
    await expect(install({ confName: '00-bad.conf' })).rejects.toThrow(`${on.confDir}: 00-bad.conflist: `);
    await off();
    expect(lstatSync(join(on.confDir, '00-bad.conflist')).ino).toBe(before);
  });

  test('permission denied', async () => {
    chmodSync(on.write('00-bad.conflist', kindnet), 0o000);
    expect(await unprivileged(() => readConfDirectory(on.confDir))).toEqual([
      { name: '00-bad.conflist', unreadable: 'permission to read it is denied' },
    ]);
    on.write('10-kindnet.conflist', kindnet);
    await unprivileged(() => expect(install()).rejects.toThrow(/permission denied; run as root/));
    expect(on.read('10-kindnet.conflist')).toBe(kindnet);
    expect(on.names()).toEqual(['00-bad.conflist', '10-kindnet.conflist']);
  });

  test('no directory is no configuration, a file in its place is an error', async () => {
    expect(await install({ confDir: '/nonexistent/net.d' })).toEqual({ file: undefined, skipped: [], changed: [] });
    await expect(install({ confDir: on.plugin })).rejects.toMatchObject({ code: 'SYSTEM' });
  });
});
