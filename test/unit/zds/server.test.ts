import { fstatSync } from 'node:fs';
import { describe, expect, it, vi } from 'vitest';
import { encodeAck } from '../../../src/zds/messages.ts';
import { got, kept, netnsFd, reasons, server, trusted, tunnel, tunnels, workload } from './world.ts';

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
    // what only the other had would have no tunnel now
    await got(old, 'snapshotSent', 'add u1', 'del u1', 'add u2');
    await server.add(workload('u3'));
    await got(old, 'snapshotSent', 'add u1', 'del u1', 'add u2', 'add u3');
  });

  it('gives a netns that is found late to the newest tunnel only, and to the one before when that drops', async () => {
    server.provide(kept('u1'));
    server.open();
    const old = tunnel();
    await got(old, 'keep u1', 'snapshotSent');
    const young = tunnel();
    await got(young, 'keep u1', 'snapshotSent');
    server.provide(workload('u1'));
    await got(young, 'keep u1', 'snapshotSent', 'add u1');
    expect(old.received).toEqual(['keep u1', 'snapshotSent']);
    young.close();
    await got(old, 'keep u1', 'snapshotSent', 'add u1');
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
    });
  });
});
