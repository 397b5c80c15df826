/** Sockets made inside a namespace and adopted by Node; marks, listeners of other processes, and sockets found by mark. */
import { once } from 'node:events';
import { closeSync, openSync } from 'node:fs';
import type { Server, Socket } from 'node:net';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { native, type DiagSocket } from '../../../src/sys/native.ts';
import { isAlive, socketFds, startTime } from '../../../src/sys/procfs.ts';
import { connect, listen } from '../../../src/sys/socket.ts';
import { errorOf, openFds, Place, startThreads, until } from './place.ts';

const TCP_LISTEN = 10;

describe('sockets of a netns', () => {
  let place: Place;
  let fds: number;
  const servers: Server[] = [];
  beforeAll(() => {
    startThreads();
    fds = openFds();
    place = Place.create('sock');
  });
  afterAll(async () => {
    for (const server of servers) await new Promise((resolve) => server.close(resolve));
    place.close();
    await until('every descriptor is closed', () => openFds() === fds);
  });

  interface Accepted {
    socket: Socket;
    local: string;
    remote: string;
  }

  /** Echoes, and keeps what it accepted. */
  async function echo(family: 4 | 6, port: number, mark = 0x539): Promise<Accepted[]> {
    const accepted: Accepted[] = [];
    const server = await listen(
      place.netns.fd,
      { family, address: family === 4 ? '0.0.0.0' : '::', port, backlog: 16, mark, transparent: true, reuseAddr: true },
      (socket) => {
        accepted.push({ socket, local: `${socket.localAddress} ${socket.localPort}`, remote: `${socket.remoteAddress}` });
        socket.on('error', () => undefined).pipe(socket);
      },
    );
    servers.push(server);
    return accepted;
  }

  async function roundTrip(socket: Socket): Promise<string> {
    const answer: Buffer[] = [];
    socket.on('data', (chunk: Buffer) => answer.push(chunk)).end('hello');
    await once(socket, 'close');
    return Buffer.concat(answer).toString();
  }

  it('listens on v6 for v4 too, and knows the accepted ends', async () => {
    const accepted = await echo(6, 15001);
    for (const [family, address, seen] of [
      [4, '10.9.0.1', '::ffff:10.9.0.1'],
      [6, 'fd09::1', 'fd09::1'],
    ] as const) {
      const socket = await connect(place.netns.fd, { family, type: 'tcp', destination: { address, port: 15001 }, timeoutMs: 1000 });
      expect(socket.remoteAddress).toBe(address);
      expect(await roundTrip(socket)).toBe('hello');
      expect(accepted.at(-1)).toMatchObject({ local: `${seen} 15001` });
    }
  });

  it('takes an IPv4-mapped text for an IPv4 socket', async () => {
    await echo(4, 15003);
    const socket = await connect(place.netns.fd, {
      family: 4,
      type: 'tcp',
      destination: { address: '::ffff:10.9.0.1', port: 15003 },
      timeoutMs: 1000,
    });
    expect(await roundTrip(socket)).toBe('hello');
  });

  it('connects from a foreign source when transparent', async () => {
    const accepted = await echo(4, 15004);
    // Answers to 10.66.0.66 must come back: deliver them locally.
    place.shell('ip route add local 10.66.0.66 dev lo');
    const fd = await native.netnsConnect(place.netns.fd, {
      family: 4,
      type: 'tcp',
      transparent: true,
      freebind: true,
      source: { address: '10.66.0.66', port: 0 },
      destination: { address: '10.9.0.1', port: 15004 },
      timeoutMs: 1000,
    });
    expect(native.socketNames(fd)).toEqual({
      local: { address: '10.66.0.66', port: expect.any(Number) as number },
      remote: { address: '10.9.0.1', port: 15004 },
    });
    await until('it is accepted', () => accepted.length === 1);
    expect(accepted[0]!.remote).toBe('10.66.0.66');
    const reset = new Promise((resolve) => accepted[0]!.socket.once('error', resolve));
    native.socketReset(fd);
    expect(await reset).toMatchObject({ code: 'ECONNRESET' });
  });

  it.each([
    ['10.9.0.1', 1, 'ECONNREFUSED'],
    ['10.9.0.99', 1, 'ETIMEDOUT'],
    ['8.8.8.8', 1, 'ENETUNREACH'],
    ['fd09::1', 1, 'EINVAL'],
    ['nonsense', 1, 'EINVAL'],
  ])('says why %s port %i cannot be reached: %s', async (address, port, code) => {
    await expect(connect(place.netns.fd, { family: 4, type: 'tcp', destination: { address, port }, timeoutMs: 150 })).rejects.toMatchObject(
      { code: 'SYSTEM', systemCode: code },
    );
  });

  it('survives its descriptor being closed while it connects', async () => {
    const before = openFds();
    const attempts = Array.from({ length: 50 }, () =>
      native.netnsConnect(place.netns.fd, { family: 4, type: 'tcp', destination: { address: '10.9.0.99', port: 1 }, timeoutMs: 100 }),
    );
    const results = await Promise.allSettled(attempts);
    expect(results.every((result) => result.status === 'rejected')).toBe(true);
    expect(openFds()).toBe(before);
  });

  it('finds and destroys sockets by mark', async () => {
    await echo(6, 15005);
    const sockets = await Promise.all(
      [1, 2, 3].map((n) =>
        connect(place.netns.fd, {
          family: n % 2 === 0 ? 4 : 6,
          type: 'tcp',
          mark: 0x5000 | 0x111,
          destination: { address: n % 2 === 0 ? '10.9.0.1' : 'fd09::1', port: 15005 },
          timeoutMs: 1000,
        }),
      ),
    );
    const marked = (): DiagSocket[] => place.netns.run({ op: 'sockets', mark: 0x111, mask: 0xfff });
    expect(marked()).toHaveLength(3);
    expect(marked()).toContainEqual(expect.objectContaining({ family: 4, dst: '10.9.0.1', dport: 15005, mark: 0x5111, state: 1 }));
    expect(new Set(marked().map((socket) => socket.cookie)).size).toBe(3);
    const errors = sockets.map((socket) => once(socket, 'error'));
    expect(place.netns.run({ op: 'sockets-destroy', mark: 0x111, mask: 0xfff })).toBe(3);
    for (const error of await Promise.all(errors)) expect(error[0]).toMatchObject({ code: 'ECONNABORTED' });
    expect(marked()).toEqual([]);
    expect(place.netns.run({ op: 'sockets-destroy', mark: 0x111, mask: 0xfff })).toBe(0);
    expect(
      place.netns.run({ op: 'sockets', mark: 0x539, mask: 0xfff }).every((socket) => socket.state === TCP_LISTEN || socket.mark === 0x539),
    ).toBe(true);
  });

  it('takes a listener out of a process and marks it', () => {
    const fd = native.netnsSocket(place.netns.fd, {
      family: 6,
      type: 'tcp',
      mark: 0x539,
      transparent: true,
      bind: { address: '::', port: 15008 },
      listen: { backlog: 1 },
    });
    const found = socketFds(process.pid).find((socket) => socket.fd === fd);
    expect(place.netns.run({ op: 'sockets', mark: 0x539, mask: 0xfff })).toContainEqual(
      expect.objectContaining({ inode: found?.inode, sport: 15008, state: TCP_LISTEN, transparent: true }),
    );
    const copy = native.pidfdGetFd(process.pid, fd);
    expect(native.socketListener(copy)).toEqual({ port: 15008, mark: 0x539, cookie: place.netns.cookie, transparent: true, family: 6 });
    native.socketMark(copy, 0x111);
    native.socketReuseAddr(copy);
    expect(native.socketListener(fd)).toMatchObject({ mark: 0x111 });
    native.closeFd(copy);
    native.closeFd(fd);
    expect(errorOf(() => native.closeFd(fd))).toMatchObject({ code: 'EBADF' });
    expect(errorOf(() => native.pidfdGetFd(process.pid, 9999))).toMatchObject({ code: 'EBADF', syscall: 'pidfd_getfd' });
  });

  it.each([4, 6] as const)('knows of an IPv%i listener whether it is transparent', (family) => {
    const listener = { family, type: 'tcp', mark: 0x539, listen: { backlog: 1 } } as const;
    const address = family === 4 ? '0.0.0.0' : '::';
    const fds = [true, false].map((transparent, i) =>
      native.netnsSocket(place.netns.fd, { ...listener, transparent, bind: { address, port: 15010 + i } }),
    );
    const found = place.netns.run({ op: 'sockets', mark: 0x539, mask: 0xfff, listening: true });
    const of = (port: number): unknown => found.find((s) => s.sport === port)?.transparent;
    expect([of(15010), of(15011)]).toEqual([true, false]);
    for (const fd of fds) native.closeFd(fd);
  });

  it('knows what is no listener', () => {
    const file = openSync('/dev/null', 'r');
    expect(native.socketListener(file)).toBeUndefined();
    expect(errorOf(() => native.socketNames(file))).toMatchObject({ code: 'ENOTSOCK' });
    closeSync(file);
    const udp = native.netnsSocket(place.netns.fd, { family: 4, type: 'udp', bind: { address: '127.0.0.1', port: 0 } });
    const idle = native.netnsSocket(place.netns.fd, { family: 4, type: 'tcp' });
    expect([udp, idle].map((fd) => native.socketListener(fd))).toEqual([undefined, undefined]);
    for (const fd of [udp, idle]) native.closeFd(fd);
  });

  it('refuses what the kernel refuses, and keeps nothing', () => {
    const before = openFds();
    expect(
      errorOf(() => native.netnsSocket(place.netns.fd, { family: 4, type: 'tcp', bind: { address: '10.9.9.9', port: 80 } })),
    ).toMatchObject({ code: 'EADDRNOTAVAIL', syscall: 'bind' });
    expect(errorOf(() => native.netnsSocket(9999, { family: 4, type: 'tcp' }))).toMatchObject({ code: 'EBADF', syscall: 'setns' });
    expect(openFds()).toBe(before);
  });

  it('tells one process from another with its pid', () => {
    const started = startTime(process.pid);
    expect(isAlive(process.pid, started)).toBe(true);
    expect(isAlive(process.pid, 1n)).toBe(false);
    expect(isAlive(0x7ffffff0)).toBe(false);
  });
});
