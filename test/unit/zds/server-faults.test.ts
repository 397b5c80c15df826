/** What tunnels and pods may do wrong: one connection, or one pod, pays for it. */
import { readdirSync } from 'node:fs';
import { describe, expect, it, vi } from 'vitest';
import { encodeAck, encodeHello } from '../../../src/zds/messages.ts';
import type { ZdsWorkload } from '../../../src/zds/server.ts';
import type { FakeTunnel } from '../../support/fake-tunnel.ts';
import { got, kept, netnsFd, reasons, server, trusted, tunnel, workload } from './world.ts';

describe('ZDS server', () => {
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

  it('sends two snapshots at once, each whole and in its own pace, with what is added meanwhile once', async () => {
    for (const uid of ['u1', 'u2', 'u3']) server.provide(workload(uid));
    server.provide(kept('u4'));
    server.open();
    const slowly = (ms: number) => (_: unknown, self: FakeTunnel) => {
      server.provide(workload('u5'));
      setTimeout(() => {
        if (!self.closed) self.send(encodeAck()); // the test may be over
      }, ms);
      return undefined;
    };
    const [a, b] = [tunnel({ answer: slowly(15) }), tunnel({ answer: slowly(4) })];
    for (const t of [a, b]) await got(t, 'add u1', 'add u2', 'add u3', 'keep u4', 'add u5', 'snapshotSent');
  });

  it('is not held up by a tunnel that stalls before its hello, and gives nothing to it', async () => {
    server.open();
    const good = tunnel();
    await got(good, 'snapshotSent');
    const silent = tunnel({ hello: undefined });
    await server.add(workload('u1'));
    await server.del('u1');
    expect(good.received).toEqual(['snapshotSent', 'add u1', 'del u1']);
    expect(silent.received).toEqual([]);
  });

  it('begins a whole snapshot anew after a tunnel that closed in the middle of one', async () => {
    for (const uid of ['u1', 'u2', 'u3']) server.provide(workload(uid));
    server.open();
    const first = tunnel({
      answer: (request, self) => {
        if (request.kind === 'add' && request.uid === 'u2') self.close();
        return self.received.length < 2 ? encodeAck() : undefined;
      },
    });
    await got(first, 'add u1', 'add u2');
    const next = tunnel();
    await got(next, 'add u1', 'add u2', 'add u3', 'snapshotSent');
    expect(server.connections()).toHaveLength(1);
  });

  it.each<[string, () => ZdsWorkload]>([
    ['whose names no packet holds', () => ({ ...workload('long'), info: { name: 'n'.repeat(1100), namespace: 's', serviceAccount: '' } })],
    ['whose descriptor is closed', () => workload('closed', 99_999)],
  ])('serves the others when there is a pod %s', async (_, pod) => {
    const broken = pod();
    server.provide(broken);
    server.provide(workload('u1'));
    server.open();
    const t = tunnel();
    await got(t, 'add u1', 'snapshotSent');
    await expect(server.add({ ...broken, uid: 'other' })).rejects.toMatchObject({ retryable: false });
    await server.add(workload('u2'));
    expect(t.closed).toBe(false);
  });

  it('sends the longest names that Kubernetes allows', async () => {
    server.open();
    const t = tunnel();
    await got(t, 'snapshotSent');
    const uid = 'a'.repeat(36);
    await server.add({ uid, info: { name: 'n'.repeat(253), namespace: 's'.repeat(63), serviceAccount: 'a'.repeat(253) }, netnsFd });
    expect(t.received).toEqual(['snapshotSent', `add ${uid}`]);
  });

  it('takes an error of a tunnel that fills the packet, and closes for one that overflows it or is empty', async () => {
    server.open();
    let answer = encodeAck('x'.repeat(2000)); // cut to the packet
    const full = tunnel({ answer: (request) => (request.kind === 'add' ? answer : encodeAck()) });
    await got(full, 'snapshotSent');
    await expect(server.add(workload('u1'))).rejects.toMatchObject({ code: 'ZDS_NACK' });
    expect(full.closed).toBe(false);
    answer = Buffer.concat([answer, Buffer.alloc(1)]);
    await expect(server.add(workload('u1'))).rejects.toMatchObject({ code: 'ZDS_NO_TUNNEL' });
    expect(reasons.join()).toContain('longer than 1024');
    answer = new Uint8Array();
    const empty = tunnel({ answer: (request) => (request.kind === 'add' && request.uid === 'u2' ? answer : encodeAck()) });
    await got(empty, 'add u1', 'snapshotSent');
    await expect(server.add(workload('u2'))).rejects.toMatchObject({ code: 'ZDS_NO_TUNNEL' });
    await vi.waitFor(() => {
      expect(empty.closed).toBe(true);
    });
  });

  it('leaves no descriptor open, whatever tunnels send and whenever they leave', async () => {
    for (let i = 0; i < 3; i++) server.provide(workload(`u${i}`));
    server.open();
    const openFds = (): number => readdirSync('/proc/self/fd').length;
    const before = openFds();
    const disturbances: ((t: FakeTunnel) => void)[] = [
      (t) => t.close(),
      (t) => t.send(encodeAck(), netnsFd),
      (t) => t.send(Buffer.alloc(2000, 1), netnsFd),
      (t) => {
        t.send(encodeAck(), netnsFd);
        t.close();
      },
    ];
    for (const disturb of disturbances) {
      const early = tunnel({ hello: undefined });
      early.send(encodeHello(), netnsFd);
      const inside = tunnel({
        answer: (_, self) => {
          disturb(self);
          return undefined;
        },
      });
      const idle = tunnel();
      await got(idle, 'add u0', 'add u1', 'add u2', 'snapshotSent');
      disturb(idle);
      await vi.waitFor(() => expect(early.closed).toBe(true));
      for (const t of [early, inside, idle]) t.close();
    }
    await vi.waitFor(
      () => {
        expect(server.connections()).toEqual([]);
        expect(openFds()).toBe(before);
      },
      { timeout: 3000 },
    );
  });

  it('serves a tunnel at once, however many came and left before it', async () => {
    for (let i = 0; i < 12; i++) tunnel().close();
    const last = tunnel();
    await vi.waitFor(() => {
      expect(server.connections()).toHaveLength(1);
    });
    server.open();
    await got(last, 'snapshotSent');
    expect(trusted).toHaveLength(1);
  });
});
