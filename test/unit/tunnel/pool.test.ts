import type { ClientHttp2Stream } from 'node:http2';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { CulvertError } from '../../../src/base/errors.ts';
import { HbonePool, type OpenConnection, type PooledConnection, type PoolKey } from '../../../src/tunnel/pool.ts';

const key: PoolKey = {
  sourceIdentity: 'a',
  destinationIdentities: ['b'],
  destination: { ip: '10.0.0.1', port: 15008 },
  sourceIp: '10.0.0.2',
};
/** the pool only hands it on */
const STREAM = JSON.parse('{}') as ClientHttp2Stream;
const never = new AbortController().signal;

class FakeConnection implements PooledConnection {
  readonly peer = 'b';
  streams = 0;
  capacity: number;
  gone = false;
  closed = false;
  /** the next request fails as if the connection had gone away */
  failNext = false;
  readonly events: { onIdle: () => void; onUnusable: () => void };

  constructor(capacity: number, events: { onIdle: () => void; onUnusable: () => void }) {
    this.capacity = capacity;
    this.events = events;
  }
  get available(): boolean {
    return !this.gone && this.streams < this.capacity;
  }
  connect(_authority: string, _headers: unknown, signal: AbortSignal): Promise<ClientHttp2Stream> {
    signal.throwIfAborted();
    if (this.failNext) {
      this.goAway();
      return Promise.reject(new CulvertError('HBONE_REFUSED', 'lost', undefined, { retryable: true }));
    }
    this.streams++;
    return Promise.resolve(STREAM);
  }
  release(): void {
    if (--this.streams === 0) this.events.onIdle();
  }
  goAway(): void {
    this.gone = true;
    this.events.onUnusable();
  }
  close(): void {
    this.closed = true;
  }
  destroy(): void {
    this.closed = true;
  }
}

let opened: FakeConnection[];
let capacity: number;
const open: OpenConnection = async (_key, events) => {
  await new Promise((resolve) => setTimeout(resolve, 10));
  const connection = new FakeConnection(capacity, events);
  opened.push(connection);
  return connection;
};
const connect = (pool: HbonePool, k = key): Promise<unknown> => pool.connect(k, '10.0.0.1:80', {}, never);

beforeEach(() => {
  opened = [];
  capacity = 100;
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
});
const settle = async (work: Promise<unknown>): Promise<void> => {
  const done = Promise.allSettled([work]);
  await vi.advanceTimersByTimeAsync(100);
  await done;
};

describe('HBONE pool', () => {
  it('opens one connection for many who come at once', async () => {
    const pool = new HbonePool(open);
    await settle(Promise.all(Array.from({ length: 50 }, () => connect(pool))));
    expect(opened).toHaveLength(1);
    expect(opened[0]?.streams).toBe(50);
  });

  it('opens another when one is full, and no more than needed', async () => {
    capacity = 10;
    const pool = new HbonePool(open);
    await settle(Promise.all(Array.from({ length: 25 }, () => connect(pool))));
    expect(opened.map(({ streams }) => streams)).toEqual([10, 10, 5]);
  });

  it('never shares between identities, addresses or clients', async () => {
    const pool = new HbonePool(open);
    for (const change of [
      {},
      { sourceIdentity: 'x' },
      { destinationIdentities: ['y'] },
      { sourceIp: '10.0.0.3' },
      { destination: { ip: '10.0.0.9', port: 15008 } },
    ]) {
      await settle(connect(pool, { ...key, ...change }));
    }
    expect(opened).toHaveLength(5);
  });

  it('takes a new connection after GOAWAY, while the old streams go on', async () => {
    const pool = new HbonePool(open);
    await settle(connect(pool));
    opened[0]?.goAway();
    await settle(connect(pool));
    expect(opened).toHaveLength(2);
    expect(opened[0]?.closed).toBe(false);
  });

  it('tries once more when a pooled connection turns out to be gone', async () => {
    const pool = new HbonePool(open);
    await settle(connect(pool));
    opened[0]!.failNext = true;
    const second = connect(pool);
    await settle(second);
    await expect(second).resolves.toMatchObject({ peer: 'b' });
    expect(opened).toHaveLength(2);
  });

  it('releases an idle connection after its time, not before', async () => {
    const pool = new HbonePool(open, 1000);
    await settle(connect(pool));
    opened[0]?.release();
    await vi.advanceTimersByTimeAsync(900);
    await settle(connect(pool)); // used again in time
    expect(opened).toHaveLength(1);
    opened[0]?.release();
    await vi.advanceTimersByTimeAsync(1100);
    expect(opened[0]?.closed).toBe(true);
    expect(pool.size).toBe(0);
  });

  it('releases a connection that nobody came to use, and one that somebody left before using it', async () => {
    const pool = new HbonePool(open, 1000);
    const gone = new AbortController();
    const left = pool.connect(key, '10.0.0.1:80', {}, gone.signal);
    gone.abort(new Error('application closed'));
    await settle(left);
    await expect(left).rejects.toThrow('application closed');
    await settle(pool.connect(key, '10.0.0.1:80', {}, gone.signal).catch(() => undefined));
    expect(opened).toHaveLength(1);
    await vi.advanceTimersByTimeAsync(1100);
    expect(opened[0]?.closed).toBe(true);
    expect(pool.size).toBe(0);
  });

  it('fails all who waited for a connection that could not be opened, and starts afresh for the next', async () => {
    let failing = true;
    const pool = new HbonePool((k, events) => (failing ? Promise.reject(new Error('refused')) : open(k, events)));
    const both = Promise.allSettled([connect(pool), connect(pool)]);
    await vi.advanceTimersByTimeAsync(1);
    expect((await both).map(({ status }) => status)).toEqual(['rejected', 'rejected']);
    failing = false;
    await settle(connect(pool));
    expect(opened).toHaveLength(1);
  });

  it('opens nothing any more once it was destroyed', async () => {
    const pool = new HbonePool(open);
    pool.destroy();
    const late = connect(pool);
    await settle(late);
    await expect(late).rejects.toMatchObject({ code: 'SYSTEM' });
    expect(opened).toEqual([]);
  });

  it('does not hammer a peer that hangs up at once', async () => {
    let count = 0;
    const pool = new HbonePool((_key, events) => {
      count++;
      const connection = new FakeConnection(10, events);
      connection.gone = true;
      return Promise.resolve(connection);
    });
    await expect(connect(pool)).rejects.toMatchObject({ code: 'HBONE_REFUSED' });
    expect(count).toBe(1);
  });
});
