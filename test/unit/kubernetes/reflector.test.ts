import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { createLogger } from '../../../src/base/log.ts';
import { Reflector, type Change } from '../../../src/kubernetes/reflector.ts';
import { ScriptedCollection, servePlain, type PlainServer } from '../../support/kubernetes/scripted.ts';

const until = (check: () => void): Promise<void> => vi.waitFor(check, { timeout: 9_000, interval: 5 });

let collection: ScriptedCollection;
let server: PlainServer;
let reflector: Reflector<unknown> | undefined;
/** what a listener knows from the changes alone */
let known: Map<string, unknown>;
let batches: (readonly Change<unknown>[])[];
let errors: Error[];
let synced: number;

beforeEach(async () => {
  collection = new ScriptedCollection();
  server = await servePlain(collection.handler);
  known = new Map();
  batches = [];
  errors = [];
  synced = 0;
});
afterEach(() => {
  reflector?.close();
  server.close();
});

function reflect(): void {
  const options = {
    api: server.api,
    path: '/things',
    convert: (object: { metadata: { name: string }; value?: unknown }) => {
      if (object.value === 'bad') throw new Error(`${object.metadata.name} is bad`);
      return object.value ?? 0;
    },
    log: createLogger('test', 'silent'),
  };
  reflector = new Reflector<unknown>(options, {
    onChanges(changes) {
      batches.push(changes);
      for (const { key, value } of changes) {
        if (value === undefined) known.delete(key);
        else known.set(key, value);
      }
    },
    onSynced: () => synced++,
    onError: (error) => errors.push(error),
  });
  reflector.start();
}

const synchronised = (): Promise<void> => until(() => expect(collection.watching).toBe(1));
const state = (): object => Object.fromEntries(known);

describe('reflector', () => {
  it('lists page by page, says once that it is in step, and follows', async () => {
    for (let index = 0; index < 600; index++) collection.put(`a${index}`);
    reflect();
    await synchronised();
    expect([known.size, synced, collection.count('list')]).toEqual([600, 1, 3]);
    collection.event('MODIFIED', collection.put('a1', { value: 1 }));
    collection.event('ADDED', collection.put('b', { value: 2 }));
    collection.event('DELETED', { metadata: { namespace: 'shop', name: 'a2', resourceVersion: '999' } });
    await until(() => expect(known.has('shop/a2')).toBe(false));
    expect([known.get('shop/a1'), known.get('shop/b'), known.size]).toEqual([1, 2, 600]);
  });

  it('resumes after the last event or bookmark, and lists no more', async () => {
    reflect();
    await synchronised();
    collection.event('BOOKMARK', { metadata: { name: '', resourceVersion: '777' } });
    collection.end();
    await until(() => expect(collection.count('watch')).toBe(2));
    expect(collection.asked.at(-1)?.query.get('resourceVersion')).toBe('777');
    await synchronised();
    collection.event('ADDED', { metadata: { name: 'a', resourceVersion: '778' } });
    await until(() => expect(known.has('a')).toBe(true));
    collection.end('break');
    await until(() => expect(collection.asked.at(-1)?.query.get('resourceVersion')).toBe('778'));
    expect([collection.count('list'), errors, synced]).toEqual([1, [], 1]);
  });

  it.each(['event', 'status'])('lists again when its version is forgotten (410 as %s), and tells only what differs', async (how) => {
    for (const name of ['same', 'changed', 'gone']) collection.put(name);
    reflect();
    await synchronised();
    batches.length = 0;
    collection.put('changed', { value: 1 });
    collection.take('gone');
    if (how === 'event') collection.event('ERROR', { kind: 'Status', code: 410, reason: 'Expired', message: 'too old' });
    else {
      collection.refuse('watch', 410);
      collection.end();
    }
    await until(() => expect(state()).toEqual({ 'shop/same': 0, 'shop/changed': 1 }));
    expect(batches.flat().map(({ key }) => key)).toEqual(['shop/changed', 'shop/gone']);
    expect([errors, synced]).toEqual([[], 1]);
  });

  it('lists again at once when its version was forgotten in an outage, however long the pauses had become', async () => {
    collection.put('a', { value: 1 });
    reflect();
    await synchronised();
    const lists = collection.count('list');
    collection.refuse('watch', 503, 4);
    collection.refuse('watch', 410);
    collection.put('b', { value: 2 });
    const watches = collection.count('watch');
    collection.end('break');
    await until(() => expect(collection.count('watch')).toBe(watches + 5));
    // after the fifth failure, the first of which is the end, the pause is 1.6 s at least
    await vi.waitFor(() => expect(collection.count('list')).toBe(lists + 1), { timeout: 1400, interval: 5 });
    await until(() => expect(state()).toEqual({ 'shop/a': 1, 'shop/b': 2 }));
  });

  it('reports an outage once, goes on trying, and is in step after it', async () => {
    collection.refuse('list', 503, 3);
    reflect();
    await synchronised();
    expect(errors.map((error) => error.message)).toEqual(['list /things: told to refuse']);
    expect(synced).toBe(1);
    collection.refuse('watch', 500, 2);
    collection.put('a');
    collection.end();
    await until(() => expect(collection.count('watch')).toBe(4)); // the first, two refused, the one that stands
    expect(errors).toHaveLength(2);
    expect(collection.count('list')).toBe(4); // the version was still good
  });

  it('keeps the last good state of an object that becomes unreadable, and names it', async () => {
    collection.put('a', { value: 1 });
    collection.put('b', { value: 'bad' });
    collection.putRaw('nameless', { metadata: {} });
    collection.putRaw('odd', 7);
    reflect();
    await synchronised();
    expect(state()).toEqual({ 'shop/a': 1 });
    expect(errors.map((error) => error.message)).toEqual([
      'b is bad',
      'read an object of /things: it has no name',
      'read an object of /things: it has no name',
    ]);
    collection.event('MODIFIED', collection.put('a', { value: 'bad' }));
    await until(() => expect(errors).toHaveLength(4));
    expect(state()).toEqual({ 'shop/a': 1 });
    collection.event('DELETED', { metadata: { namespace: 'shop', name: 'a' } });
    await until(() => expect(state()).toEqual({}));
  });

  it('lists again after a line that is no event', async () => {
    reflect();
    await synchronised();
    collection.put('a');
    collection.line('nonsense');
    await until(() => expect(state()).toEqual({ 'shop/a': 0 }));
    expect(errors).toHaveLength(1);
  });

  it('delivers what arrived at once in one batch', async () => {
    reflect();
    await synchronised();
    const lines = Array.from({ length: 50 }, (_, index) => JSON.stringify({ type: 'ADDED', object: collection.put(`a${index}`) }));
    collection.line(lines.join('\n'));
    await until(() => expect(known.size).toBe(50));
    expect(batches).toHaveLength(1);
  });

  it('says nothing more and lets go of its connection once closed', async () => {
    reflect();
    await synchronised();
    reflector?.close();
    await until(() => expect(collection.watching).toBe(0));
    expect([batches, errors]).toEqual([[], []]);
  });

  it('survives a listener that throws', async () => {
    collection.put('a');
    const log = createLogger('test', 'silent');
    let calls = 0;
    const onChanges = (): void => {
      calls++;
      throw new Error('listener');
    };
    reflector = new Reflector<unknown>(
      { api: server.api, path: '/things', convert: () => 1, log },
      { onChanges, onSynced: () => synced++, onError: (error) => errors.push(error) },
    );
    reflector.start();
    await synchronised();
    collection.event('ADDED', collection.put('b'));
    await until(() => expect(calls).toBe(2));
    expect([synced, errors]).toEqual([1, []]);
  });
});
