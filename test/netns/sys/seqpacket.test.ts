/** The ZDS kind of socket: packets with descriptors, and peers that misbehave. */
import { execFileSync } from 'node:child_process';
import { closeSync, existsSync, fstatSync, mkdirSync, mkdtempSync, openSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { native, type Seqpacket } from '../../../src/sys/native.ts';
import { seqpacketConnect, seqpacketListen } from '../../../src/sys/seqpacket.ts';
import { errorOf, openFds, startThreads, until } from './place.ts';

const MAX_PACKET = 4096;
const MANY_FDS = new URL('../../../build/test/many-fds', import.meta.url).pathname;

interface Received {
  data: Buffer;
  fds: number[];
  truncated: boolean;
}

/** One end, and what came in on it. */
class End {
  readonly received: Received[] = [];
  readonly closed: (Error | undefined)[] = [];
  readonly handlers = {
    onPacket: (data: Uint8Array, fds: number[], truncated: boolean): void => {
      this.received.push({ data: Buffer.from(data), fds, truncated });
    },
    onClose: (error?: Error): void => {
      this.closed.push(error);
    },
  };
  connection!: Seqpacket;
}

describe('seqpacket', () => {
  let directory: string;
  let path: string;
  let fds: number;
  const listeners: { close(): void }[] = [];
  const ends: End[] = [];
  beforeAll(() => {
    mkdirSync(new URL('../../../build/test', import.meta.url), { recursive: true });
    execFileSync('cc', ['-Wall', '-Werror', '-O1', '-o', MANY_FDS, new URL('./many-fds.c', import.meta.url).pathname]);
    directory = mkdtempSync(join(tmpdir(), 'cvt-addon-'));
    path = join(directory, 'zds.sock');
    startThreads();
    fds = openFds();
  });
  afterEach(async () => {
    for (const listener of listeners.splice(0)) listener.close();
    for (const end of ends.splice(0)) {
      end.connection.close();
      for (const fd of end.received.flatMap((packet) => packet.fds)) closeSync(fd);
    }
    await until('every descriptor is closed', () => openFds() === fds);
  });
  afterAll(() => {
    rmSync(directory, { recursive: true });
  });

  function serve(): End[] {
    const accepted: End[] = [];
    listeners.push(
      seqpacketListen(path, MAX_PACKET, (connection) => {
        const end = new End();
        end.connection = connection;
        accepted.push(end);
        ends.push(end);
        return end.handlers;
      }),
    );
    return accepted;
  }

  async function pair(): Promise<[client: End, server: End]> {
    const accepted = serve();
    const client = new End();
    client.connection = seqpacketConnect(path, MAX_PACKET, client.handlers);
    ends.push(client);
    await until('the connection is accepted', () => accepted.length === 1);
    return [client, accepted[0]!];
  }

  it('knows its peer', async () => {
    const [client, server] = await pair();
    const me = { pid: process.pid, uid: process.getuid!(), gid: process.getgid!() };
    expect(client.connection.peer).toEqual(me);
    expect(server.connection.peer).toEqual(me);
  });

  it('carries a thousand packets with a descriptor each, in order and both ways', async () => {
    const [client, server] = await pair();
    const file = openSync('/proc/self/ns/net', 'r');
    const same = fstatSync(file).ino;
    for (let i = 0; i < 1000; i++) {
      for (const [from, to] of [
        [client, server],
        [server, client],
      ] as const) {
        from.connection.send(Buffer.from(`packet ${i}`), file);
        // Descriptors in flight are limited per user: take them out as they come.
        if (i % 20 === 19) await until('the packets arrive', () => to.received.length === i + 1);
      }
    }
    for (const end of [client, server]) {
      await until('all have arrived', () => end.received.length === 1000);
      end.received.forEach((packet, i) => {
        expect(packet.data.toString()).toBe(`packet ${i}`);
        expect(packet.fds).toHaveLength(1);
        expect(fstatSync(packet.fds[0]!).ino).toBe(same);
      });
    }
    closeSync(file);
  });

  it('queues what the peer has not read yet, up to a limit', async () => {
    const [client, server] = await pair();
    const sent: number[] = [];
    const refusal = errorOf(() => {
      for (let i = 0; i < 100_000; i++) {
        client.connection.send(Buffer.alloc(1000, i % 251));
        sent.push(i);
      }
    });
    expect(refusal).toMatchObject({ code: 'EAGAIN', syscall: 'sendmsg' });
    await until('all that was taken arrives', () => server.received.length === sent.length);
    expect(server.received.every((packet, i) => packet.data.length === 1000 && packet.data[0] === i % 251)).toBe(true);
  });

  it('delivers garbage as it is', async () => {
    const [client, server] = await pair();
    const packets = [Buffer.alloc(0), Buffer.from([0]), Buffer.alloc(MAX_PACKET, 0xff), Buffer.alloc(0), Buffer.from('x')];
    for (const packet of packets) client.connection.send(packet);
    await until('all have arrived', () => server.received.length === packets.length);
    expect(server.received.map((packet) => packet.data)).toEqual(packets);
    expect(server.closed).toEqual([]);
  });

  it('says when a packet was longer than the buffer, and keeps none of its descriptors', async () => {
    const [client, server] = await pair();
    client.connection.send(Buffer.alloc(MAX_PACKET + 1), 0);
    client.connection.send(Buffer.from('next'));
    await until('both have arrived', () => server.received.length === 2);
    expect(server.received[0]).toMatchObject({ fds: [], truncated: true });
    expect(server.received[0]!.data).toHaveLength(MAX_PACKET);
    expect(server.received[1]).toEqual({ data: Buffer.from('next'), fds: [], truncated: false });
  });

  it.each([
    [1, 1, false],
    [4, 4, false],
    [5, 0, true],
    [253, 0, true],
  ])('takes %i descriptors of one packet as %i', async (sent, taken, truncated) => {
    const accepted = serve();
    const before = openFds();
    const sender = execFileSync.bind(undefined, MANY_FDS, [path, String(sent)]);
    sender();
    await until('it has arrived', () => accepted[0]?.closed.length === 1);
    expect(accepted[0]!.received).toEqual([{ data: Buffer.from('x'), fds: expect.any(Array) as number[], truncated }]);
    expect(accepted[0]!.received[0]!.fds).toHaveLength(taken);
    expect(openFds()).toBe(before + taken);
  });

  it('reads what a peer said before it left without reading', async () => {
    const [client, server] = await pair();
    server.connection.send(Buffer.from('unread'));
    client.connection.send(Buffer.from('last words'));
    client.connection.close();
    await until('the end is seen', () => server.closed.length === 1);
    expect(server.received.map((packet) => packet.data.toString())).toEqual(['last words']);
    expect(errorOf(() => server.connection.send(Buffer.from('x')))).toMatchObject({ code: 'EPIPE' });
  });

  it('closes once, and says so once', async () => {
    const [client, server] = await pair();
    client.connection.close();
    expect(client.closed).toEqual([]); // never from inside close()
    client.connection.close();
    await until('both ends are told', () => client.closed.length === 1 && server.closed.length === 1);
    expect([...client.closed, ...server.closed]).toEqual([undefined, undefined]);
    expect(errorOf(() => client.connection.send(Buffer.from('x')))).toMatchObject({ code: 'EPIPE' });
  });

  it('refuses packets that no buffer holds', async () => {
    const [client] = await pair();
    expect(errorOf(() => client.connection.send(Buffer.alloc(10_000_000)))).toMatchObject({ code: 'EMSGSIZE' });
    expect(errorOf(() => client.connection.send(Buffer.from('x'), 9999))).toMatchObject({ code: 'EBADF' });
  });

  it('makes a socket file for root alone, replaces a stale one, leaves a live one and other files', () => {
    serve();
    expect(statSync(path).mode & 0o777).toBe(0o600);
    expect(errorOf(() => seqpacketListen(path, MAX_PACKET, () => new End().handlers))).toMatchObject({ systemCode: 'EADDRINUSE' });
    listeners.splice(0).forEach((listener) => listener.close());
    expect(existsSync(path)).toBe(false);

    execFileSync(MANY_FDS, [path, 'leave']);
    expect(existsSync(path)).toBe(true);
    serve();
    listeners.splice(0).forEach((listener) => listener.close());

    writeFileSync(path, 'not a socket');
    expect(errorOf(() => seqpacketListen(path, MAX_PACKET, () => new End().handlers))).toMatchObject({ systemCode: 'EADDRINUSE' });
    rmSync(path);
  });

  it('does not take away the file of the listener after it', () => {
    const first = seqpacketListen(path, MAX_PACKET, () => new End().handlers);
    rmSync(path);
    const second = seqpacketListen(path, MAX_PACKET, () => new End().handlers);
    first.close();
    expect(existsSync(path)).toBe(true);
    second.close();
    expect(existsSync(path)).toBe(false);
  });

  it('says why it cannot connect or listen', () => {
    expect(errorOf(() => seqpacketConnect(path, MAX_PACKET, new End().handlers))).toMatchObject({
      systemCode: 'ENOENT',
      syscall: 'connect',
    });
    expect(errorOf(() => native.seqpacketListen(join(directory, 'x'.repeat(120)), 0o600, 1, () => new End().handlers))).toMatchObject({
      code: 'ENAMETOOLONG',
    });
    expect(errorOf(() => seqpacketListen('/absent/zds.sock', MAX_PACKET, () => new End().handlers))).toMatchObject({
      systemCode: 'ENOENT',
      syscall: 'bind',
    });
  });
});
