/** The tunnel's ZDS rules: against a model for any sequence of requests, and one by one where a rule has a sentence of its own. */
import { closeSync, fstatSync, mkdtempSync, openSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, describe, expect, it, vi } from 'vitest';
import { isCulvert } from '../../../src/base/errors.ts';
import { createLogger } from '../../../src/base/log.ts';
import { Workloads } from '../../../src/tunnel/workloads.ts';
import type { ZdsRequest } from '../../../src/zds/messages.ts';

const directory = mkdtempSync(join(tmpdir(), 'cvt-tun-zds-'));
afterAll(() => {
  rmSync(directory, { recursive: true });
});
const log = createLogger('test', 'silent');

/** Files stand for netns: the same file is the same netns. */
function netns(name: string): number {
  const path = join(directory, name);
  writeFileSync(path, '');
  return openSync(path, 'r');
}

interface Proxy {
  uid: string;
  inode: bigint;
  stopped: boolean;
  stop(): Promise<void>;
  drain(): Promise<void>;
}

function subject(fails: () => boolean = () => false, retryMs?: number) {
  const started: Proxy[] = [];
  const fds = new Set<number>();
  const workloads = new Workloads<Proxy>(
    (uid, _info, fd) => {
      if (fails()) return Promise.reject(new Error('bind: EADDRINUSE'));
      const inode = fstatSync(fd, { bigint: true }).ino; // throws if it was closed too early
      const proxy: Proxy = { uid, inode, stopped: false, stop: () => end(), drain: () => end() };
      const end = (): Promise<void> => {
        proxy.stopped = true;
        return Promise.resolve();
      };
      started.push(proxy);
      fds.add(fd);
      return Promise.resolve(proxy);
    },
    log,
    retryMs,
  );
  return { workloads, started, fds };
}

const add = (uid: string): ZdsRequest => ({ kind: 'add', uid, workload: { name: uid, namespace: 'ns', serviceAccount: 'sa' } });
const uids = (workloads: Workloads<Proxy>): string[] =>
  workloads
    .running()
    .map(({ uid }) => uid)
    .sort();

describe('ZDS rules', () => {
  it('does nothing for the same uid in the same netns, and moves to another netns', async () => {
    const { workloads, started } = subject();
    workloads.connected();
    await workloads.handle(add('a'), netns('one'));
    await workloads.handle(add('a'), netns('one'));
    expect(started).toHaveLength(1);
    await workloads.handle(add('a'), netns('two'));
    expect(started.map(({ stopped }) => stopped)).toEqual([true, false]);
    await workloads.close(0);
  });

  it('keeps what a new snapshot mentions and stops the rest', async () => {
    const { workloads } = subject();
    workloads.connected();
    for (const uid of ['a', 'b', 'c']) await workloads.handle(add(uid), netns(uid));
    await workloads.handle({ kind: 'snapshotSent' });
    expect(workloads.ready).toBe(true);
    workloads.disconnected();
    expect(workloads.ready).toBe(false);
    workloads.connected();
    await workloads.handle({ kind: 'keep', uid: 'a' });
    await workloads.handle(add('b'), netns('b'));
    expect(uids(workloads)).toEqual(['a', 'b', 'c']);
    await workloads.handle({ kind: 'snapshotSent' });
    expect(uids(workloads)).toEqual(['a', 'b']);
    await workloads.close(0);
  });

  it('calls keep after the snapshot, and a second snapshot, mistakes of protocol', async () => {
    const { workloads } = subject();
    workloads.connected();
    await workloads.handle(add('a'), netns('a'));
    await workloads.handle({ kind: 'snapshotSent' });
    await expect(workloads.handle({ kind: 'keep', uid: 'a' })).rejects.toMatchObject({ code: 'ZDS_PROTOCOL' });
    await expect(workloads.handle({ kind: 'snapshotSent' })).rejects.toMatchObject({ code: 'ZDS_PROTOCOL' });
    await expect(workloads.handle(add('b'))).rejects.toMatchObject({ code: 'ZDS_PROTOCOL' });
    expect(uids(workloads)).toEqual(['a']);
    await workloads.close(0);
  });

  it('nacks what does not start, is not ready, and tries again', async () => {
    vi.useFakeTimers();
    try {
      let failing = true;
      const { workloads } = subject(() => failing, 5000);
      workloads.connected();
      await expect(workloads.handle(add('a'), netns('a'))).rejects.toThrow('failure to start proxy : bind: EADDRINUSE');
      await workloads.handle({ kind: 'snapshotSent' });
      expect(workloads.ready).toBe(false);
      await vi.advanceTimersByTimeAsync(5000);
      expect(uids(workloads)).toEqual([]);
      failing = false;
      await vi.advanceTimersByTimeAsync(5000);
      expect(uids(workloads)).toEqual(['a']);
      expect(workloads.ready).toBe(true);
      await workloads.close(0);
    } finally {
      vi.useRealTimers();
    }
  });

  it('follows the model in any sequence, and leaves no descriptor open', async () => {
    const uid = fc.constantFrom('a', 'b', 'c');
    const step = fc.oneof(
      fc.record({ do: fc.constant('add' as const), uid, netns: fc.constantFrom('n1', 'n2', 'n3'), fails: fc.boolean() }),
      fc.record({ do: fc.constantFrom('keep' as const, 'del' as const), uid }),
      fc.record({ do: fc.constantFrom('snapshot' as const, 'reconnect' as const) }),
    );
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 40 }), async (steps) => {
        let fails = false;
        const { workloads, fds } = subject(() => fails);
        const running = new Map<string, string>();
        const pending = new Set<string>();
        let mentioned: Set<string> | undefined = new Set();
        workloads.connected();
        for (const one of steps) {
          switch (one.do) {
            case 'add': {
              fails = one.fails;
              const result = await workloads.handle(add(one.uid), netns(one.netns)).then(
                () => 'ack',
                () => 'nack',
              );
              mentioned?.add(one.uid);
              if (running.get(one.uid) === one.netns) {
                expect(result).toBe('ack');
                break;
              }
              pending.delete(one.uid);
              running.delete(one.uid);
              if (one.fails) pending.add(one.uid);
              else running.set(one.uid, one.netns);
              expect(result).toBe(one.fails ? 'nack' : 'ack');
              break;
            }
            case 'keep': {
              const result = await workloads.handle({ kind: 'keep', uid: one.uid }).then(
                () => 'ack',
                (error: unknown) => (isCulvert(error, 'ZDS_PROTOCOL') ? 'protocol' : 'nack'),
              );
              expect(result).toBe(mentioned === undefined ? 'protocol' : 'ack');
              mentioned?.add(one.uid);
              break;
            }
            case 'del':
              await workloads.handle({ kind: 'del', uid: one.uid });
              pending.delete(one.uid);
              if (mentioned === undefined) running.delete(one.uid);
              else mentioned.delete(one.uid);
              break;
            case 'snapshot':
              await workloads.handle({ kind: 'snapshotSent' }).catch(() => undefined);
              if (mentioned !== undefined) for (const known of [...running.keys()]) if (!mentioned.has(known)) running.delete(known);
              mentioned = undefined;
              break;
            case 'reconnect':
              workloads.disconnected();
              workloads.connected();
              mentioned = new Set();
              pending.clear();
              break;
          }
          expect(uids(workloads)).toEqual([...running.keys()].sort());
        }
        await workloads.close(0);
        expect(workloads.running()).toEqual([]);
        for (const fd of fds) expect(() => closeSync(fd)).toThrow('EBADF');
      }),
      { numRuns: 60 },
    );
  });
});
