import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { parseNetConf } from '../../../src/cni/netconf.ts';
import { supportedVersions } from '../../../src/cni/spec.ts';
import { copyWithEntry, find, insert, isOwn, PLUGIN_TYPE, remove, SPOKEN, STANDALONE, standalone } from '../../../src/install/conflist.ts';
import { readJson } from '../../../src/install/json.ts';
import type { ConfFile, Outcome } from '../../../src/install/network.ts';
import { settings } from '../../support/install.ts';

const GOLDEN = join(import.meta.dirname, '../../golden/conflist');

function value<T>(outcome: Outcome<T>): T {
  expect(outcome.faults).toBeUndefined();
  return outcome.value as T;
}

const inserted = (file: ConfFile): ConfFile => value(insert(file, settings));
const parsed = (text: string): unknown => JSON.parse(text);
const list = (content: unknown): ConfFile => ({ name: '10-net.conflist', text: JSON.stringify(content) });
const plugins = (file: ConfFile): { type: string }[] => (parsed(file.text) as { plugins: { type: string }[] }).plugins;

describe('configurations of the world', () => {
  const projects = readdirSync(GOLDEN);
  test('all of them', () => {
    expect(projects).toEqual(['calico', 'cilium', 'flannel', 'gke', 'k3s', 'kindnet', 'multus', 'single', 'weave']);
  });

  test.each(projects)('%s', async (project) => {
    const [name = ''] = readdirSync(join(GOLDEN, project, 'before'));
    const before = { name, text: readFileSync(join(GOLDEN, project, 'before', name), 'utf8') };
    const after = inserted(before);
    expect(after.name).toBe(name.replace(/\.conf$/, '.conflist'));
    await expect(after.text).toMatchFileSnapshot(join(GOLDEN, project, 'after', after.name));
    expect(inserted(after)).toBe(after);
    const removal = value(remove(after));
    expect(removal).toMatchObject({ kind: 'replace', file: { name } });
    expect(removal.kind === 'replace' && parsed(removal.file.text)).toEqual(parsed(before.text));
  });
});

describe('any list', () => {
  const entry = fc
    .record({ type: fc.string({ minLength: 1 }).filter((type) => type !== PLUGIN_TYPE) })
    .chain((fixed) => fc.dictionary(fc.string(), fc.jsonValue(), { maxKeys: 4 }).map((more) => ({ ...more, ...fixed })));
  const anyList = fc
    .record({ head: fc.dictionary(fc.string(), fc.jsonValue(), { maxKeys: 3 }), plugins: fc.array(entry, { minLength: 1, maxLength: 4 }) })
    .map(({ head, plugins: some }) => ({ ...head, cniVersion: '1.0.0', name: 'net', plugins: some }));

  test('is the same after insert and remove; inserting twice is inserting once', () => {
    fc.assert(
      fc.property(anyList, (content) => {
        const before = list(content);
        const once = inserted(before);
        expect(inserted(once)).toEqual(once);
        expect(plugins(once).at(-1)?.type).toBe(PLUGIN_TYPE);
        const removal = value(remove(once));
        expect(removal.kind === 'replace' && removal.file.name).toBe(before.name);
        // as text: the order of keys counts
        expect(removal.kind === 'replace' && JSON.stringify(parsed(removal.file.text))).toBe(JSON.stringify(parsed(before.text)));
      }),
    );
  });

  test('is the same in a single plugin, too', () => {
    fc.assert(
      fc.property(entry, fc.option(fc.constantFrom('0.3.1', '1.0.0'), { nil: undefined }), (content, cniVersion) => {
        const { cniVersion: _, plugins: __, ...plugin } = content as Record<string, unknown>;
        const single = { ...(cniVersion === undefined ? {} : { cniVersion }), ...plugin };
        const once = inserted({ name: '10-net.json', text: JSON.stringify(single) });
        expect(once.name).toBe('10-net.conflist');
        expect(inserted(once)).toEqual(once);
        const removal = value(remove(once));
        expect(removal.kind === 'replace' && removal.file.name).toBe('10-net.json');
        expect(removal.kind === 'replace' && parsed(removal.file.text)).toEqual(parsed(JSON.stringify(single)));
      }),
    );
  });

  test('any text has an outcome', () => {
    const text = fc.oneof(
      fc.string(),
      fc.json(),
      anyList.chain((content) => fc.nat(400).map((length) => JSON.stringify(content).slice(0, length))),
    );
    fc.assert(
      fc.property(text, fc.constantFrom('a.conflist', 'a.conf'), (content, name) => {
        const file = { name, text: content };
        for (const outcome of [insert(file, settings), remove(file), copyWithEntry(file, '00-a.conflist', settings)])
          if (outcome.faults !== undefined) expect(outcome.faults.join()).not.toBe('');
        find(file);
      }),
    );
  });
});

describe('our entry', () => {
  test('takes the place of earlier ones, and is the last', () => {
    const stale = { type: PLUGIN_TYPE, cniVersion: '0.1.0', runDir: '/old' };
    const once = inserted(list({ cniVersion: '1.0.0', name: 'n', plugins: [stale, { type: 'ptp' }, stale, { type: 'portmap' }] }));
    expect(plugins(once)).toEqual([{ type: 'ptp' }, { type: 'portmap' }, { type: PLUGIN_TYPE, ...settings }]);
  });

  test('is what the plugin reads, with what a runtime adds', () => {
    const other = { ...settings, runDir: '/run/other', onAgentDown: 'closed' } as const;
    const file = value(insert(list({ cniVersion: '1.0.0', name: 'n', plugins: [{ type: 'ptp' }] }), other));
    const conf = parseNetConf(JSON.stringify({ ...find(file), name: 'n', cniVersion: '1.0.0' }), 'STATUS', '0.3.0');
    expect(conf.plugin).toMatchObject({ runDir: '/run/other', stateDir: '/var/lib/culvert', onAgentDown: 'closed' });
  });

  test('goes into lists of the versions that the plugin speaks', () => {
    expect(SPOKEN).toEqual(supportedVersions);
  });

  test('is not found where it is not', () => {
    expect(find(list({ cniVersion: '1.0.0', name: 'n', plugins: [{ type: 'ptp' }] }))).toBeUndefined();
    expect(value(remove(list({ cniVersion: '1.0.0', name: 'n', plugins: [{ type: 'ptp' }] })))).toEqual({ kind: 'absent' });
    expect(value(remove({ name: 'a.conf', text: 'no matter what' }))).toEqual({ kind: 'absent' });
  });

  test('leaves the numbers of others as they are spelt', () => {
    const text = '{"cniVersion":"1.1.0","name":"n","plugins":[{"type":"ptp","a":1.0,"b":12345678901234567890,"c":1e3,"d":-0}]}';
    const once = inserted({ name: 'a.conflist', text });
    for (const number of ['"a": 1.0,', '"b": 12345678901234567890,', '"c": 1e3,', '"d": -0\n']) expect(once.text).toContain(number);
    expect(inserted(once)).toBe(once);
  });
});

describe('a single plugin that became a list', () => {
  const wrapped = inserted({ name: '10-net.conf', text: '{"cniVersion":"0.4.0","type":"bridge","name":"b"}' });

  test('stays a list when somebody else joined it', () => {
    const content = parsed(wrapped.text) as { plugins: unknown[] };
    const joined = { ...wrapped, text: JSON.stringify({ ...content, plugins: [...content.plugins, { type: 'tuning' }] }) };
    expect(value(remove(inserted(joined)))).toMatchObject({ kind: 'replace', file: { name: '10-net.conflist' } });
  });

  test('never takes the name of another file from what stands in the entry', () => {
    const content = wrapped.text.replace('10-net.conf', '../../passwd');
    expect(value(remove({ name: wrapped.name, text: content }))).toMatchObject({ kind: 'replace', file: { name: '10-net.conflist' } });
  });
});

describe('a copy for own-config mode', () => {
  const primary = list({ cniVersion: '1.0.0', name: 'n', extra: 1, plugins: [{ type: 'ptp' }] });
  const copy = value(copyWithEntry(primary, '02-culvert.conflist', settings));

  test('says what the primary says, and whose copy it is', () => {
    expect(parsed(copy.text)).toMatchObject({ cniVersion: '1.0.0', name: 'n', extra: 1 });
    expect(plugins(copy)).toEqual([{ type: 'ptp' }, { type: PLUGIN_TYPE, ...settings, copyOf: '10-net.conflist' }]);
    expect(isOwn(copy)).toBe(true);
    expect(isOwn(inserted(primary))).toBe(false);
  });

  test('is wholly ours', () => {
    expect(value(remove(copy))).toEqual({ kind: 'delete' });
  });

  test('of a single plugin is a list', () => {
    const single = value(copyWithEntry({ name: '10-a.conf', text: '{"type":"bridge"}' }, '02-culvert.conflist', settings));
    expect(plugins(single).map(({ type }) => type)).toEqual(['bridge', PLUGIN_TYPE]);
    expect(value(remove(single))).toEqual({ kind: 'delete' });
  });
});

describe('unchained', () => {
  const ours = standalone(STANDALONE, settings);

  test('our entry is a network of its own, all ours', async () => {
    await expect(ours.text).toMatchFileSnapshot(join(GOLDEN, '../unchained', STANDALONE));
    expect(find(ours)).toMatchObject({ type: PLUGIN_TYPE, ...settings });
    expect(isOwn(ours)).toBe(true);
    expect(value(remove(ours))).toEqual({ kind: 'delete' });
  });

  test('is what the plugin reads', () => {
    expect(parseNetConf(ours.text, 'ADD', '0.3.0')).toMatchObject({ cniVersion: '0.3.1', name: 'culvert-cni', plugin: settings });
  });

  test('is told from the single plugin of somebody else', () => {
    const single = { name: '10-net.conf', text: '{"type":"bridge"}' };
    expect(find(single)).toBeUndefined();
    expect(isOwn(single)).toBe(false);
    expect(value(remove(single))).toEqual({ kind: 'absent' });
  });
});

describe('faults', () => {
  test.each([
    ['a.conflist', '', 'it is empty'],
    ['a.conflist', ' \n', 'it is empty'],
    ['a.conflist', '{"name":"n","plugins":[{"type":"pt', 'it is not JSON: Unterminated string'],
    ['a.conflist', 'plugins: []', 'it is not JSON'],
    ['a.conflist', '\ufeff{}', 'it is not JSON'],
    ['a.conflist', '[]', 'it is not an object, found []'],
    ['a.conflist', 'null', 'it is not an object, found null'],
    ['a.conflist', '{"name":"n"}', 'plugins: missing, must be a list'],
    ['a.conflist', '{"name":"n","plugins":{"type":"a"}}', 'plugins: must be a list, found {"type":"a"}'],
    ['a.conflist', '{"name":"n","plugins":[]}', 'plugins: must not be empty'],
    ['a.conflist', '{"name":"n","plugins":[{"type":"a"},7]}', 'plugins[1]: must be an object, found 7'],
    ['a.conflist', '{"name":"n","plugins":[{"mtu":1}]}', 'plugins[0].type: missing'],
    ['a.conflist', '{"name":"n","plugins":[{"type":5}]}', 'plugins[0].type: must be a text that is not empty, found 5'],
    ['a.conflist', '{"plugins":[{"type":"a"}]}', 'name: missing'],
    ['a.conflist', '{"name":"n","cniVersion":1,"plugins":[{"type":"a"}]}', 'cniVersion: must be a text, found 1'],
    ['a.conflist', `{"name":"n","cniVersion":"1.0.0","plugins":[{"type":"${PLUGIN_TYPE}"}]}`, 'must have a plugin before culvert-cni'],
    ['a.conflist', '{"name":"n","cniVersion":"0.2.0","plugins":[{"type":"a"}]}', 'which culvert-cni speaks, found "0.2.0"'],
    ['a.conflist', '{"name":"n","plugins":[{"type":"a"}]}', 'which culvert-cni speaks, found nothing'],
    ['a.conf', '{"name":"n","plugins":[{"type":"a"}]}', 'its name must end with .conflist'],
    ['a.conf', '{"name":"n"}', 'type: missing'],
    ['a.conf', `{"type":"${PLUGIN_TYPE}"}`, 'must be the plugin that makes the network'],
  ])('%s %s', (name, text, fault) => {
    expect(insert({ name, text }, settings).faults?.join('; ')).toContain(fault);
  });

  test('are all named', () => {
    const { faults } = insert({ name: 'a.conflist', text: '{"cniVersion":2,"name":3,"plugins":[4,{"type":5}]}' }, settings);
    expect(faults).toHaveLength(4);
  });

  test('nesting without end is one, too', () => {
    const deep = '['.repeat(100_000) + ']'.repeat(100_000);
    const text = `{"name":"n","plugins":[{"type":"a","x":${deep}}]}`;
    expect(insert({ name: 'a.conflist', text }, settings).faults).toHaveLength(1);
    expect(() => readJson(text)).toThrow('it is not JSON');
  });
});
