import { closeSync, fstatSync, mkdtempSync, openSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { native } from '../../../src/sys/native.ts';
import { encodeAck, encodeHello, MAX_PACKET } from '../../../src/zds/messages.ts';
import { ZdsServer, type ZdsWorkload } from '../../../src/zds/server.ts';
import { FakeTunnel } from '../../support/fake-tunnel.ts';

let directory: string;
let path: string;
let server: ZdsServer;
let netnsFd: number;
const tunnels: FakeTunnel[] = [];
const reasons: string[] = [];
const trusted: number[] = [];

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'cvt-zds-'));
  path = join(directory, 'z.sock');
  netnsFd = openSync('/proc/self/ns/net', 'r');
  reasons.length = 0;
  trusted.length = 0;
  const log = pino(
    { level: 'info' },
    {
      write: (line: string) => {
        const { reason } = JSON.parse(line) as { reason?: string };
        if (reason !== undefined) reasons.push(reason);
      },
    },
  );
  server = new ZdsServer({
    listen: (onConnection) => native.seqpacketListen(path, 0o600, MAX_PACKET, onConnection),
    log,
    deadlineMs: 150,
    onTunnel: (peer) => trusted.push(peer.pid),
  });
});
afterEach(() => {
  for (const tunnel of tunnels.splice(0)) tunnel.close();
  server.close();
  closeSync(netnsFd);
  rmSync(directory, { recursive: true });
});

const tunnel = (options?: ConstructorParameters<typeof FakeTunnel>[1]): FakeTunnel => {
  const made = new FakeTunnel(path, options);
  tunnels.push(made);
  return made;
};
const workload = (uid: string, fd: number | undefined = netnsFd): ZdsWorkload => ({
  uid,
  info: { name: uid, namespace: 'shop', serviceAccount: 'sa' },
  netnsFd: fd,
});
const kept = (uid: string): ZdsWorkload => ({ ...workload(uid), netnsFd: undefined });
const got = (t: FakeTunnel, ...packets: string[]): Promise<void> =>
  vi.waitFor(
    () => {
      expect(t.received).toEqual(packets);
    },
    { interval: 2, timeout: 2000 },
  );

describe('ZDS server', () => {
  it('takes connections at once, and sends the snapshot when it is complete: adds with their netns, keeps without', async () => {
    const t = tunnel();
    server.provide(workload('u1'));
    server.provide(kept('u2'));
    await new Promise((resolve) => setTimeout(resolve, 200)); // longer than a deadline: waiting for the snapshot is no fault
    expect(t.received).toEqual([]);
    server.open();
    await got(t, 'add u1', 'keep u2', 'snapshotSent');
    expect(t.netns.get('u1')).toBe(fstatSync(netnsFd).ino);
    expect(trusted).toEqual([process.pid]);
    expect(server.connections()).toMatchObject([{ peer: { pid: process.pid } }]);
    // its netns is found: what was kept is sent in full, once
    server.provide(workload('u2'));
    server.provide(workload('u2'));
    await got(t, 'add u1', 'keep u2', 'snapshotSent', 'add u2');
  });

  it('adds and deletes with an ack each, and says what the tunnel says', async () => {
    server.open();
    await expect(server.add(workload('u1'))).rejects.toMatchObject({ code: 'ZDS_NO_TUNNEL', retryable: true });
    await server.del('u1');
    const t = tunnel({
      answer: (request) => encodeAck(request.kind === 'add' && request.uid === 'bad' ? 'failure to start proxy : EADDRINUSE' : ''),
    });
    await got(t, 'snapshotSent');
    expect(await server.add(workload('u1'))).toMatchObject({ pid: process.pid });
    await expect(server.add(workload('bad'))).rejects.toThrow('failure to start proxy : EADDRINUSE');
    await server.del('bad');
    await Promise.all([server.add(workload('u2')), server.del('u1')]);
    await got(t, 'snapshotSent', 'add u1', 'add bad', 'del bad', 'add u2', 'del u1');
    expect(t.closed).toBe(false);
  });

  it('has one request outstanding at a time', async () => {
    server.open();
    let outstanding = 0;
    const t = tunnel({
      answer: (_, self) => {
        expect(++outstanding).toBe(1);
        setTimeout(() => {
          outstanding--;
          self.send(encodeAck());
        }, 3);
        return undefined;
      },
    });
    await got(t, 'snapshotSent');
    await Promise.all(Array.from({ length: 20 }, (_, i) => server.add(workload(`u${i}`))));
    expect(t.received).toHaveLength(21);
  });

  it('gives adds to the newest tunnel, deletes to all, and falls back when the newest drops', async () => {
    server.open();
    const old = tunnel();
    await got(old, 'snapshotSent');
    await server.add(workload('u1'));
    const young = tunnel();
    await got(young, 'add u1', 'snapshotSent');
    await server.add(workload('u2'));
    expect(old.received).toEqual(['snapshotSent', 'add u1']);
    await server.del('u1');
    await got(old, 'snapshotSent', 'add u1', 'del u1');
    await got(young, 'add u1', 'snapshotSent', 'add u2', 'del u1');
    expect(server.connections()).toHaveLength(2);
    young.close();
    await vi.waitFor(() => {
      expect(server.connections()).toHaveLength(1);
    });
    await server.add(workload('u3'));
    await got(old, 'snapshotSent', 'add u1', 'del u1', 'add u3');
  });

  it('hands an add over to the one before when the newest drops while it should answer', async () => {
    server.open();
    const old = tunnel();
    await got(old, 'snapshotSent');
    const young = tunnel({
      answer: (request, self) => {
        if (request.kind !== 'add') return encodeAck();
        self.close();
        return undefined;
      },
    });
    await got(young, 'snapshotSent');
    await server.add(workload('u1'));
    expect(old.received).toEqual(['snapshotSent', 'add u1']);
  });

  it('queues updates while the snapshot is under way', async () => {
    server.provide(workload('u1'));
    server.open();
    const t = tunnel({
      answer: (_, self) => {
        setTimeout(() => {
          self.send(encodeAck());
        }, 20);
        return undefined;
      },
    });
    await got(t, 'add u1');
    await Promise.all([server.add(workload('u2')), server.del('u1')]);
    // what came during the snapshot may be in it, and is sent after it; to hear it twice is harmless
    const after = t.received.slice(t.received.indexOf('snapshotSent') + 1);
    expect(after.sort()).toEqual(['add u2', 'del u1']);
  });

  it('closes a connection whose ack does not come in time, and never takes a late one for the next', async () => {
    server.open();
    const t = tunnel({ answer: (request) => (request.kind === 'snapshotSent' ? encodeAck() : undefined) });
    await got(t, 'snapshotSent');
    await expect(server.add(workload('u1'))).rejects.toMatchObject({ code: 'ZDS_TIMEOUT' });
    await vi.waitFor(() => {
      expect(t.closed).toBe(true);
    });
    expect(server.connections()).toEqual([]);
    expect(reasons.join()).toContain('wait for ZDS ack of add: nothing within 150 ms');
    const next = tunnel();
    await got(next, 'add u1', 'snapshotSent'); // it is still wanted: the reconnected tunnel hears of it
  });

  it('treats a deletion as done when the tunnel drops instead of answering', async () => {
    server.open();
    const t = tunnel({
      answer: (request, self) => {
        if (request.kind !== 'del') return encodeAck();
        self.close();
        return undefined;
      },
    });
    await got(t, 'snapshotSent');
    await server.del('u1');
  });

  it.each<[string, (t: FakeTunnel) => void, string]>([
    [
      'an ack that nobody asked for',
      (t) => {
        t.send(encodeAck());
      },
      '2 bytes that nobody asked for',
    ],
    [
      'a second hello',
      (t) => {
        t.send(encodeHello());
      },
      'nobody asked for',
    ],
    [
      'an oversized packet',
      (t) => {
        t.send(Buffer.alloc(2000, 1));
      },
      'longer than 1024',
    ],
    [
      'a file descriptor',
      (t) => {
        t.send(encodeAck(), netnsFd);
      },
      'with a file descriptor',
    ],
  ])('closes for %s', async (_, disturb, reason) => {
    server.open();
    const t = tunnel();
    await got(t, 'snapshotSent');
    disturb(t);
    await vi.waitFor(() => {
      expect(t.closed).toBe(true);
    });
    expect(reasons.join()).toContain(reason);
    const next = tunnel();
    await got(next, 'snapshotSent');
  });

  it.each<[string, Uint8Array | undefined, string]>([
    ['no hello', undefined, 'wait for ZDS hello'],
    ['garbage instead of hello', Buffer.from('ff00ff00', 'hex'), 'protocol'],
    ['a hello without a version', Buffer.from('0800', 'hex'), 'no version'],
  ])('closes for %s, and it never was a tunnel', async (_, hello, reason) => {
    server.open();
    const t = tunnel({ hello });
    await vi.waitFor(() => {
      expect(t.closed).toBe(true);
    });
    expect(reasons.join()).toContain(reason);
    expect(trusted).toEqual([]);
    await expect(server.add(workload('u1'))).rejects.toMatchObject({ code: 'ZDS_NO_TUNNEL' });
  });

  it('closes for garbage instead of an ack', async () => {
    server.open();
    const t = tunnel({ answer: (request) => (request.kind === 'snapshotSent' ? encodeAck() : Buffer.from('ffffff', 'hex')) });
    await got(t, 'snapshotSent');
    await expect(server.add(workload('u1'))).rejects.toMatchObject({ code: 'ZDS_NO_TUNNEL' });
    await vi.waitFor(() => {
      expect(t.closed).toBe(true);
    });
  });

  it('goes on with the snapshot when one pod is refused', async () => {
    server.provide(workload('u1'));
    server.provide(workload('u2'));
    server.open();
    const t = tunnel({ answer: (request) => encodeAck(request.kind === 'add' && request.uid === 'u1' ? 'no' : '') });
    await got(t, 'add u1', 'add u2', 'snapshotSent');
    expect(t.closed).toBe(false);
  });

  it('serves a tunnel that reconnects in a loop five times a second, not more', async () => {
    server.open();
    for (let i = 0; i < 7; i++) tunnel();
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect(tunnels.filter((t) => t.received.length > 0)).toHaveLength(5);
    await vi.waitFor(() => {
      expect(tunnels.every((t) => t.received.length > 0)).toBe(true);
    }, 2000);
  });
});
