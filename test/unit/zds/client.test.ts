/** The tunnel's end of ZDS against a scripted agent. */
import { mkdtempSync, openSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { CulvertError } from '../../../src/base/errors.ts';
import { createLogger } from '../../../src/base/log.ts';
import type { SeqpacketHandlers } from '../../../src/sys/native.ts';
import { ZdsClient, type ZdsHandler } from '../../../src/zds/client.ts';
import { decodeHello, decodeResponse, encodeRequest, type ZdsRequest } from '../../../src/zds/messages.ts';

const directory = mkdtempSync(join(tmpdir(), 'cvt-tun-zds-'));
const path = join(directory, 'zds.sock');
afterAll(() => {
  rmSync(directory, { recursive: true });
});

interface Connection {
  handlers: SeqpacketHandlers;
  sent: Uint8Array[];
  closed: boolean;
}
let connections: Connection[];
let refuse: boolean;
let tries: number;
let events: string[];
let fail: Error | undefined;
let client: ZdsClient;

const handler: ZdsHandler = {
  connected: () => void events.push('connected'),
  disconnected: () => void events.push('disconnected'),
  handle: (request) => {
    events.push(request.kind);
    return fail === undefined ? Promise.resolve() : Promise.reject(fail);
  },
};

beforeEach(() => {
  vi.useFakeTimers();
  connections = [];
  refuse = false;
  tries = 0;
  events = [];
  fail = undefined;
  client = new ZdsClient(path, handler, createLogger('test', 'silent'), (_path, _max, handlers) => {
    tries++;
    if (refuse) throw Object.assign(new Error('connect'), { code: 'ECONNREFUSED' });
    const connection: Connection = { handlers, sent: [], closed: false };
    connections.push(connection);
    return {
      peer: { pid: 1, uid: 0, gid: 0 },
      send: (data) => void connection.sent.push(data),
      close: () => {
        connection.closed = true;
        handlers.onClose();
      },
    };
  });
});
afterEach(() => {
  client.close();
  vi.useRealTimers();
});

const give = async (data: Uint8Array, fds: number[] = [], truncated = false): Promise<string> => {
  const connection = connections.at(-1)!;
  connection.handlers.onPacket(data, fds, truncated);
  await vi.advanceTimersByTimeAsync(0);
  return decodeResponse(connection.sent.at(-1)!).error;
};
const request = (one: ZdsRequest, fds: number[] = []): Promise<string> => give(encodeRequest(one), fds);
const add: ZdsRequest = { kind: 'add', uid: 'a', workload: { name: 'a', namespace: 'b', serviceAccount: 'c' } };
const descriptor = (): number => openSync('/dev/null', 'r');

describe('ZDS client', () => {
  it('says hello first, then acks each request in order', async () => {
    client.start();
    expect(decodeHello(connections[0]!.sent[0]!)).toBe(1);
    expect(await request(add, [descriptor()])).toBe('');
    expect(await request({ kind: 'snapshotSent' })).toBe('');
    expect(events).toEqual(['connected', 'add', 'snapshotSent']);
    expect(connections[0]!.sent).toHaveLength(3);
  });

  it('nacks what the handler cannot do, and stays', async () => {
    client.start();
    fail = new CulvertError('ENROL_FAILED', 'failure to start proxy : bind');
    expect(await request(add, [descriptor()])).toBe('failure to start proxy : bind');
    expect(connections[0]!.closed).toBe(false);
  });

  it.each([
    ['garbage', () => give(Uint8Array.from([255, 255, 255]))],
    ['an empty packet', () => give(new Uint8Array(0))],
    ['a truncated packet', () => give(encodeRequest({ kind: 'keep', uid: 'a' }), [], true)],
    ['an add without a descriptor', () => request(add)],
    ['an add with two', () => request(add, [descriptor(), descriptor()])],
    ['a descriptor where none belongs', () => request({ kind: 'snapshotSent' }, [descriptor()])],
  ])('nacks %s and begins anew', async (_name, act) => {
    client.start();
    expect(await act()).not.toBe('');
    expect(connections[0]!.closed).toBe(true);
    expect(events).toEqual(['connected', 'disconnected']);
    await vi.advanceTimersByTimeAsync(20);
    expect(connections).toHaveLength(2);
    expect(events.at(-1)).toBe('connected');
  });

  it('begins anew after a mistake of protocol that only the state shows', async () => {
    client.start();
    fail = new CulvertError('ZDS_PROTOCOL', 'keep a: the snapshot is over');
    expect(await request({ kind: 'keep', uid: 'a' })).toContain('snapshot is over');
    await vi.advanceTimersByTimeAsync(20);
    expect(connections).toHaveLength(2);
  });

  it('tries again after 20 ms, doubling to 15 s', async () => {
    refuse = true;
    client.start();
    const at: number[] = [];
    let seen = 1;
    for (let ms = 0; ms < 60_000; ms += 10) {
      await vi.advanceTimersByTimeAsync(10);
      if (tries > seen) at.push(ms + 10);
      seen = tries;
    }
    expect(at.slice(0, 4)).toEqual([20, 60, 140, 300]);
    expect(at.at(-1)! - at.at(-2)!).toBe(15_000);
  });

  it('meets an agent that is back at once, however long it was away', async () => {
    refuse = true;
    client.start();
    await vi.advanceTimersByTimeAsync(40_000);
    refuse = false;
    vi.useRealTimers(); // the watch is real
    writeFileSync(path, '');
    await vi.waitFor(() => expect(connections).toHaveLength(1));
  });

  it('does not come back after close', async () => {
    client.start();
    client.close();
    await vi.advanceTimersByTimeAsync(60_000);
    expect(tries).toBe(1);
  });
});
