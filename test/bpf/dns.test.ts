/** DNS capture over UDP and TCP: port 53 goes to the tunnel's 15053, and the app goes on seeing the resolver it asked. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { podFlag } from '../../src/maps/index.ts';
import { Datapath, familyOf, forms } from '../support/bpf-datapath.ts';
import { codeOf, type End, type SocketProcess, type Type } from '../support/bpf-sockets.ts';

const DNS = 15053;
let d: Datapath;
let tunnel: SocketProcess;
/** the tunnel's resolver: a TCP listener, which registers, and a UDP socket beside it */
let listener: number;
let datagrams: number;

beforeAll(async () => {
  d = await Datapath.create();
  tunnel = d.tunnel;
});
afterAll(() => d.close());

beforeEach(async () => {
  d.withdraw();
  d.enrol('POD_ACTIVE', podFlag.POD_DNS);
  listener = await tunnel.tunnelListen(DNS);
  datagrams = await tunnel.socket(6, 'udp');
  await tunnel.bind(datagrams, { address: '::', port: DNS });
});
afterEach(async () => {
  await tunnel.close(datagrams);
  await stopListening();
});

let stopped = false;
async function stopListening(): Promise<void> {
  if (!stopped) await tunnel.close(listener);
  stopped = true;
}
beforeEach(() => void (stopped = false));

describe.each(forms)('asked by %s', (form) => {
  const resolver = (): End => ({ address: { v4: '10.0.0.53', v6: 'fd00::53', mapped: '::ffff:10.0.0.53' }[form], port: 53 });
  const loopback = form === 'v6' ? '::1' : '::ffff:127.0.0.1';

  async function withSocket<T>(type: Type, use: (fd: number) => Promise<T>): Promise<T> {
    const fd = await d.app.socket(familyOf(form), type);
    try {
      return await use(fd);
    } finally {
      await d.app.close(fd);
    }
  }

  test('connected UDP: peer and reply are the resolver asked', () =>
    withSocket('udp', async (fd) => {
      expect(await d.reasons(() => d.app.connect(fd, resolver()))).toEqual({ OUT_REDIRECT_DNS_UDP: 1 });
      expect(await d.app.peer(fd)).toEqual(resolver());
      await d.app.send(fd, 'question');
      const query = await tunnel.receiveFrom(datagrams);
      expect(query).toMatchObject({ address: loopback, text: 'question' });
      await tunnel.sendTo(datagrams, query, 'answer');
      expect(await d.app.receiveFrom(fd)).toEqual({ ...resolver(), text: 'answer' });
    }));

  test('unconnected UDP: the reply comes from the resolver asked last', () =>
    withSocket('udp', async (fd) => {
      const second = { ...resolver(), address: resolver().address.replace(/53$/, '54') };
      for (const to of [resolver(), second]) {
        expect(await d.reasons(() => d.app.sendTo(fd, to, 'question'))).toEqual({ OUT_REDIRECT_DNS_UDP: 1 });
        const query = await tunnel.receiveFrom(datagrams);
        await tunnel.sendTo(datagrams, query, 'answer');
        expect(await d.app.receiveFrom(fd)).toEqual({ ...to, text: 'answer' });
      }
    }));

  test("a datagram from a stranger's port 15053 keeps its source", () =>
    withSocket('udp', async (fd) => {
      await d.app.sendTo(fd, resolver(), 'question');
      const stranger = await d.outside.socket(familyOf(form), 'udp');
      await d.outside.bind(stranger, { address: d.address(d.outsidePod, form), port: DNS });
      await d.outside.sendTo(stranger, { address: d.address(d.pod, form), port: (await d.app.name(fd)).port }, 'unasked');
      expect(await d.app.receiveFrom(fd)).toEqual({ address: d.address(d.outsidePod, form), port: DNS, text: 'unasked' });
      await d.outside.close(stranger);
      await tunnel.receiveFrom(datagrams);
    }));

  test('TCP: the peer is the resolver asked', () =>
    withSocket('tcp', async (fd) => {
      expect(await d.reasons(() => d.app.connect(fd, resolver()))).toEqual({ OUT_REDIRECT_DNS_TCP: 1 });
      expect(await d.app.peer(fd)).toEqual(resolver());
      const accepted = await tunnel.accept(listener);
      await tunnel.send(accepted.fd, 'answer');
      expect(await d.app.receive(fd)).toBe('answer');
      await tunnel.close(accepted.fd);
    }));

  test('other ports of UDP are left alone, and replies from 15053 itself keep their source', () =>
    withSocket('udp', async (fd) => {
      const to = { address: { v4: '127.0.0.1', v6: '::1', mapped: '::ffff:127.0.0.1' }[form], port: DNS };
      expect(await d.reasons(() => d.app.sendTo(fd, to, 'direct'))).toEqual({});
      const query = await tunnel.receiveFrom(datagrams);
      await tunnel.sendTo(datagrams, query, 'answer');
      expect(await d.app.receiveFrom(fd)).toEqual({ ...to, text: 'answer' });
    }));

  test('refused at once and counted when the listener is gone', async () => {
    await stopListening();
    const codes: (string | undefined)[] = [];
    const reasons = await d.reasons(async () => {
      codes.push(await withSocket('udp', (fd) => codeOf(d.app.connect(fd, resolver()))));
      codes.push(await withSocket('udp', (fd) => codeOf(d.app.sendTo(fd, resolver(), 'question'))));
      codes.push(await withSocket('tcp', (fd) => codeOf(d.app.connect(fd, resolver()))));
    });
    expect(codes).toEqual(['ECONNREFUSED', 'ECONNREFUSED', 'ECONNREFUSED']);
    expect(reasons).toEqual({ OUT_DROP_DNS_NO_TUNNEL: 3 });
  });

  test('a tunnel that never listened on 15053: UDP passes, TCP is captured as any connection', async () => {
    d.maps.generation.deleteWhere((key) => key.port === DNS);
    const outbound = await tunnel.tunnelListen(15001);
    expect(await d.reasons(() => withSocket('udp', (fd) => d.app.sendTo(fd, resolver(), 'question')))).toEqual({ OUT_PASS_DNS_OFF: 1 });
    expect(await d.reasons(() => withSocket('tcp', (fd) => d.app.connect(fd, resolver())))).toMatchObject({ OUT_REDIRECT_TUNNEL: 1 });
    await tunnel.close(outbound);
  });

  test('a pod that does not want it: UDP passes', async () => {
    d.enrol('POD_ACTIVE', 0);
    expect(await d.reasons(() => withSocket('udp', (fd) => d.app.sendTo(fd, resolver(), 'question')))).toEqual({ OUT_PASS_DNS_OFF: 1 });
  });

  test.each(['POD_PREPARED', 'POD_DRAINING'] as const)('%s passes', async (state) => {
    d.enrol(state, podFlag.POD_DNS);
    expect(await d.reasons(() => withSocket('udp', (fd) => d.app.sendTo(fd, resolver(), 'question')))).toEqual({ OUT_PASS_INACTIVE: 1 });
  });

  test("the tunnel's own queries pass", async () => {
    const fd = await tunnel.socket(familyOf(form), 'udp');
    await tunnel.setMark(fd, 0x539);
    const reasons = await d.reasons(async () => {
      await tunnel.sendTo(fd, resolver(), 'question');
      await tunnel.connect(fd, resolver());
    });
    expect(reasons).toEqual({ OUT_PASS_TUNNEL: 2 });
    expect(await tunnel.peer(fd)).toEqual(resolver());
    await tunnel.close(fd);
  });

  test('an own address or loopback as resolver passes', async () => {
    const own = { address: d.address(d.pod, form), port: 53 };
    expect(await d.reasons(() => withSocket('udp', (fd) => d.app.sendTo(fd, own, 'question')))).toEqual({ OUT_PASS_OWN: 1 });
  });
});
