/** Which listeners become the tunnel's, which tunnel gets new connections, and what else listen(2) and bind(2) do in a pod. */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { podFlag, wire } from '../../src/maps/index.ts';
import { Datapath } from '../support/bpf-datapath.ts';
import { codeOf, SOL_SOCKET, type End, type SocketProcess } from '../support/bpf-sockets.ts';

const SO_REUSEADDR = 2;
const TUNNEL_PORTS = [wire.PORT_OUTBOUND, wire.PORT_INBOUND, wire.PORT_HBONE, wire.PORT_DNS];

let d: Datapath;
beforeAll(async () => {
  d = await Datapath.create();
});
afterAll(() => d.close());
beforeEach(() => {
  d.withdraw();
  d.enrol();
});

describe('registration', () => {
  test.each(TUNNEL_PORTS)('of port %i', async (port) => {
    let fd = 0;
    expect(await d.reasons(async () => (fd = await d.tunnel.tunnelListen(port)))).toMatchObject({ REG_LISTENER: 1 });
    expect(d.maps.listeners.keys()).toEqual([{ cookie: d.cookie, port, slot: 1 }]);
    expect(d.maps.generation.entries()).toEqual([{ key: { cookie: d.cookie, port }, value: 1 }]);
    expect(await d.tunnel.mark(fd)).toBe(port === wire.PORT_OUTBOUND ? 0x111 : 0x539);
    expect(await d.tunnel.call('get', fd, SOL_SOCKET, SO_REUSEADDR)).toEqual(['1']);
    await d.tunnel.close(fd);
    expect(d.maps.listeners.keys()).toEqual([]);
    expect(d.maps.generation.entries()).toHaveLength(1);
  });

  test.each(['POD_PREPARED', 'POD_DRAINING'] as const)('in state %s, too', async (state) => {
    d.enrol(state);
    const fd = await d.tunnel.tunnelListen(15006);
    expect(d.maps.listeners.keys()).toHaveLength(1);
    await d.tunnel.close(fd);
  });

  test('not in a netns that is not ours', async () => {
    d.maps.pods.delete(d.cookie);
    const fd = await d.tunnel.tunnelListen(15001);
    expect(d.maps.listeners.keys()).toEqual([]);
    expect(d.maps.generation.keys()).toEqual([]);
    expect(await d.tunnel.mark(fd)).toBe(0x539);
    await d.tunnel.close(fd);
  });

  test('not of an app that sets the mark', async () => {
    let fd = 0;
    expect(await d.reasons(async () => (fd = await d.app.tunnelListen(15001)))).toEqual({ REG_REFUSED: 1, MISC_BIND_REUSE: 1 });
    expect(d.maps.listeners.keys()).toEqual([]);
    await d.app.close(fd);
  });

  test('not of a tunnel without the mark', async () => {
    const fd = await d.tunnel.listen(15001);
    expect(d.maps.listeners.keys()).toEqual([]);
    await d.tunnel.close(fd);
  });

  test('of anyone with the mark, where the mark is enough', async () => {
    d.enrol('POD_ACTIVE', podFlag.POD_MARK_ONLY);
    const fd = await d.app.tunnelListen(15001);
    expect(d.maps.listeners.keys()).toHaveLength(1);
    await d.app.close(fd);
  });
});

describe('a second tunnel', () => {
  const to = (): End => ({ address: d.outsidePod.ip4, port: 80 });

  async function connect(): Promise<void> {
    const fd = await d.app.socket(4);
    await d.app.connect(fd, to());
    await d.app.close(fd);
  }
  const accepts = async (who: SocketProcess, listener: number): Promise<boolean> => {
    const accepted = await who.accept(listener, 50).catch(() => undefined);
    if (accepted !== undefined) await who.close(accepted.fd);
    return accepted !== undefined;
  };

  test('gets all new connections, and the first gets them again when it dies', async () => {
    const second = d.start('tunnel2');
    d.trust('tunnel2');
    const first = await d.tunnel.tunnelListen(15001);
    await connect();
    expect(await accepts(d.tunnel, first)).toBe(true);

    const newer = await second.tunnelListen(15001);
    for (let i = 0; i < 8; i++) {
      await connect();
      expect(await accepts(second, newer)).toBe(true);
    }
    expect(await accepts(d.tunnel, first)).toBe(false);

    await second.kill();
    expect(d.maps.listeners.keys()).toHaveLength(1);
    await connect();
    expect(await accepts(d.tunnel, first)).toBe(true);

    await d.tunnel.close(first);
    expect(await d.reasons(() => codeOf(connect()))).toEqual({ OUT_DROP_NO_TUNNEL: 1 });
  });
});

describe("an app's listener", () => {
  test('with a mark of its own is reported', async () => {
    const fd = await d.app.socket(6);
    await d.app.setMark(fd, 5);
    await d.app.bind(fd, { address: '::', port: 7000 });
    expect(await d.reasons(() => d.app.call('listen', fd))).toEqual({ MISC_APP_MARK: 1 });
    await d.app.close(fd);
  });

  test.each([0, 0x111])('with mark %i is not', async (mark) => {
    const fd = await d.app.socket(6);
    await d.app.setMark(fd, mark);
    await d.app.bind(fd, { address: '::', port: 7000 });
    expect(await d.reasons(() => d.app.call('listen', fd))).toEqual({});
    await d.app.close(fd);
  });
});

describe.each([4, 6] as const)('bind of the port of a captured connection, IPv%i', (family) => {
  const port = 7777;
  const any = family === 4 ? '0.0.0.0' : '::';

  async function captured(use: () => Promise<void>): Promise<void> {
    const listener = await d.tunnel.tunnelListen(15001);
    const fd = await d.app.socket(family);
    await d.app.connect(fd, { address: family === 4 ? d.outsidePod.ip4 : d.outsidePod.ip6, port });
    const accepted = await d.tunnel.accept(listener);
    await use();
    await d.app.close(fd);
    await d.tunnel.close(accepted.fd, listener);
  }

  test('works, and two listeners are refused as ever', () =>
    captured(async () => {
      let fd = 0;
      expect(await d.reasons(async () => (fd = await d.app.listen(port, any)))).toEqual({ MISC_BIND_REUSE: 1 });
      expect(await codeOf(d.app.listen(port, any))).toBe('EADDRINUSE');
      await d.app.close(fd);
    }));

  test('would fail without the fix', () =>
    captured(async () => {
      d.maps.pods.delete(d.cookie);
      expect(await codeOf(d.app.listen(port, any))).toBe('EADDRINUSE');
      d.enrol();
    }));
});
