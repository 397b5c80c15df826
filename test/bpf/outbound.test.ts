/** The outbound decision of connect: each rule in its order, for v4, v6 and v4-mapped, on real sockets. */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { enums, podFlag } from '../../src/maps/index.ts';
import { Datapath, familyOf, forms, type Form } from '../support/bpf-datapath.ts';
import { codeOf, type End, type SocketProcess } from '../support/bpf-sockets.ts';

const PORT = 8080;
let d: Datapath;
let outsideListener: number;

beforeAll(async () => {
  d = await Datapath.create();
  outsideListener = await d.outside.listen(PORT);
});
afterAll(() => d.close());
beforeEach(() => d.withdraw());

/** Connects and closes again; the error's code, or undefined. */
async function attempt(
  who: SocketProcess,
  form: Form,
  to: End,
  options: { mark?: number; bind?: End; device?: string; type?: 'tcp' | 'udp' | 'mptcp'; ms?: number } = {},
): Promise<{ code?: string; mark: number; local: End }> {
  const fd = await who.socket(familyOf(form), options.type);
  try {
    if (options.mark !== undefined) await who.setMark(fd, options.mark);
    if (options.device !== undefined) await who.call('device', fd, options.device);
    if (options.bind !== undefined) await who.bind(fd, options.bind);
    const code = await codeOf(who.connect(fd, to, options.ms));
    return { ...(code === undefined ? {} : { code }), mark: await who.mark(fd), local: await who.name(fd) };
  } finally {
    await who.close(fd);
  }
}

describe.each(forms)('connect by %s', (form) => {
  const outside = (): End => ({ address: d.address(d.outsidePod, form), port: PORT });
  const own = (port = PORT): End => ({ address: d.address(d.pod, form), port });
  const loopback = { v4: '127.0.0.1', v6: '::1', mapped: '::ffff:127.0.0.1' }[form];
  const unspecified = { v4: '0.0.0.0', v6: '::', mapped: '::ffff:0.0.0.0' }[form];
  const probe = { v4: '169.254.7.127', v6: 'fd16:9254:7127:1337:ffff:ffff:ffff:ffff', mapped: '::ffff:169.254.7.127' }[form];

  async function expectDirect(): Promise<void> {
    const { fd, peer } = await d.outside.accept(outsideListener);
    expect(peer.address).toBe(form === 'v6' ? d.pod.ip6 : `::ffff:${d.pod.ip4}`);
    await d.outside.close(fd);
  }

  test('a netns that is not enrolled is not looked at', async () => {
    d.maps.pods.delete(d.cookie);
    expect(await d.reasons(() => attempt(d.app, form, outside()))).toEqual({});
    await expectDirect();
  });

  test.each(['POD_PREPARED', 'POD_DRAINING'] as const)('%s passes', async (state) => {
    d.enrol(state);
    expect(await d.reasons(() => attempt(d.app, form, outside()))).toEqual({ OUT_PASS_INACTIVE: 1 });
    await expectDirect();
  });

  test('loopback and unspecified destinations pass', async () => {
    d.enrol();
    for (const address of [loopback, unspecified]) {
      expect(await d.reasons(() => attempt(d.app, form, { address, port: 9 }))).toEqual({ OUT_PASS_LOOPBACK: 1 });
    }
  });

  test('an own address passes, at connect and at lookup', async () => {
    d.enrol();
    expect(await d.reasons(() => attempt(d.app, form, own(9)))).toMatchObject({ OUT_PASS_OWN: 1, IN_PASS_SELF: 1 });
  });

  test("Istio's probe address is captured as any, and passes while it is believed", async () => {
    d.enrol();
    expect(await d.reasons(() => attempt(d.app, form, { address: probe, port: PORT }, { ms: 10 }))).toEqual({ OUT_DROP_NO_TUNNEL: 1 });
    const { ISTIO_PROBES_V4, ISTIO_PROBES_V6 } = enums.istio_probes;
    d.maps.settings.set(0, { event_mask: 0, istio_probes: form === 'v6' ? ISTIO_PROBES_V6 : ISTIO_PROBES_V4 });
    expect(await d.reasons(() => attempt(d.app, form, { address: probe, port: PORT }, { ms: 10 }))).toEqual({ OUT_PASS_PROBE: 1 });
  });

  test('is captured: the tunnel sees source and destination as the app chose them', async () => {
    d.enrol();
    const listener = await d.tunnel.tunnelListen(15001);
    try {
      const fd = await d.app.socket(familyOf(form));
      expect(await d.reasons(() => d.app.connect(fd, outside()))).toEqual({ OUT_REDIRECT_TUNNEL: 1, OUT_REDIRECT_ACCEPTED: 1 });
      const accepted = await d.tunnel.accept(listener);
      const plain = ({ address, port }: End): End => ({ address: address.replace('::ffff:', ''), port });
      expect(plain(await d.tunnel.name(accepted.fd))).toEqual(plain(outside()));
      expect(plain(accepted.peer)).toEqual(plain(await d.app.name(fd)));
      expect(await d.app.peer(fd)).toEqual(outside());
      expect(await d.tunnel.mark(accepted.fd)).toBe(0x111);
      await d.tunnel.send(accepted.fd, 'hello');
      expect(await d.app.receive(fd)).toBe('hello');
      await d.app.close(fd);
      await d.tunnel.close(accepted.fd);
    } finally {
      await d.tunnel.close(listener);
    }
  });

  test('keeps the other bits of the mark', async () => {
    d.enrol();
    const listener = await d.tunnel.tunnelListen(15001);
    expect((await attempt(d.app, form, outside(), { mark: 0x12345abc })).mark).toBe(0x12345111);
    await d.tunnel.close(listener);
  });

  test('is refused at once when the tunnel is gone', async () => {
    d.enrol();
    await d.tunnel.close(await d.tunnel.tunnelListen(15001));
    let code: string | undefined;
    expect(await d.reasons(async () => ({ code } = await attempt(d.app, form, outside())))).toEqual({ OUT_DROP_NO_TUNNEL: 1 });
    expect(code).toBe('ECONNREFUSED');
  });

  test('is refused when bound to another device or to a loopback source', async () => {
    d.enrol();
    const listener = await d.tunnel.tunnelListen(15001);
    const results: (string | undefined)[] = [];
    expect(
      await d.reasons(async () => {
        results.push((await attempt(d.app, form, outside(), { device: 'eth0' })).code);
        results.push((await attempt(d.app, form, outside(), { bind: { address: loopback, port: 0 } })).code);
      }),
    ).toEqual({ OUT_DROP_DEVICE: 1, OUT_DROP_SOURCE: 1 });
    expect(results).toEqual(['EHOSTUNREACH', 'EINVAL']);
    await d.tunnel.close(listener);
  });

  test('a source bound to an own address is captured', async () => {
    d.enrol();
    const listener = await d.tunnel.tunnelListen(15001);
    expect(await d.reasons(() => attempt(d.app, form, outside(), { bind: own(0) }))).toMatchObject({ OUT_REDIRECT_TUNNEL: 1 });
    await d.tunnel.close(listener);
  });

  test('UDP passes uncounted, but for port 53', async () => {
    d.enrol();
    expect(await d.reasons(() => attempt(d.app, form, outside(), { type: 'udp' }))).toEqual({});
    expect(await d.reasons(() => attempt(d.app, form, { ...outside(), port: 53 }, { type: 'udp' }))).toEqual({ OUT_PASS_DNS_OFF: 1 });
  });

  test('MPTCP is captured', async (context) => {
    const supported = await d.app.socket(familyOf(form), 'mptcp').then(
      (fd) => d.app.close(fd).then(() => true),
      () => false,
    );
    if (!supported) context.skip('needs mptcp: the kernel has no IPPROTO_MPTCP');
    d.enrol();
    const listener = await d.tunnel.tunnelListen(15001);
    expect(await d.reasons(() => attempt(d.app, form, outside(), { type: 'mptcp' }))).toMatchObject({
      OUT_REDIRECT_TUNNEL: 1,
      OUT_REDIRECT_ACCEPTED: 1,
    });
    await d.tunnel.close(listener);
  });

  describe('of the tunnel', () => {
    const mark = 0x539;

    test.each(['POD_PREPARED', 'POD_ACTIVE', 'POD_DRAINING'] as const)('passes outside in state %s', async (state) => {
      d.enrol(state);
      let result = { mark: 0 };
      expect(await d.reasons(async () => (result = await attempt(d.tunnel, form, outside(), { mark })))).toEqual({ OUT_PASS_TUNNEL: 1 });
      expect(result.mark).toBe(mark);
      await expectDirect();
    });

    test('loses its mark towards loopback, has the local one towards the app, keeps it towards 15008', async () => {
      d.enrol();
      const marks: number[] = [];
      const reasons = await d.reasons(async () => {
        for (const to of [{ address: loopback, port: 9 }, own(9), own(15008)])
          marks.push((await attempt(d.tunnel, form, to, { mark })).mark);
      });
      expect(marks).toEqual([0, 0x111, mark]);
      expect(reasons).toMatchObject({ OUT_PASS_TUNNEL: 3 });
    });

    test('bound to an own address is not the client: passes outside, has the local mark towards the app', async () => {
      d.enrol();
      const marks: number[] = [];
      const reasons = await d.reasons(async () => {
        for (const to of [outside(), own(9)]) marks.push((await attempt(d.tunnel, form, to, { mark, bind: own(0) })).mark);
      });
      expect(marks).toEqual([mark, 0x111]);
      expect(reasons).toMatchObject({ OUT_PASS_TUNNEL: 2 });
      expect(d.maps.inner.keys()).toEqual([]);
      await expectDirect();
    });

    test("plays the client: the app sees the client's address and its answers stay in the pod", async () => {
      d.enrol();
      const listener = await d.app.listen(PORT);
      try {
        const client = d.address(d.outsidePod, form);
        const fd = await d.tunnel.socket(familyOf(form));
        await d.tunnel.setMark(fd, mark);
        await d.tunnel.transparent(fd, familyOf(form));
        await d.tunnel.bind(fd, { address: client, port: 0 });
        expect(await d.reasons(() => d.tunnel.connect(fd, own()))).toEqual({ OUT_PASS_INNER: 1, IN_PASS_INNER: 1 });
        const accepted = await d.app.accept(listener);
        expect(accepted.peer).toEqual({ address: form === 'v4' ? `::ffff:${client}` : client, port: (await d.tunnel.name(fd)).port });
        expect(await d.app.mark(accepted.fd)).toBe(0x111);
        await d.app.send(accepted.fd, 'answer');
        expect(await d.tunnel.receive(fd)).toBe('answer');
        expect(d.maps.inner.entries()).toHaveLength(1);
        await d.app.close(accepted.fd);
        await d.tunnel.close(fd);
      } finally {
        await d.app.close(listener);
      }
    });

    test('with its mark but not its cgroup is an app', async () => {
      d.enrol();
      const listener = await d.tunnel.tunnelListen(15001);
      expect(await d.reasons(() => attempt(d.app, form, outside(), { mark }))).toEqual({
        MISC_FALSE_TUNNEL: 1,
        OUT_REDIRECT_TUNNEL: 1,
        OUT_REDIRECT_ACCEPTED: 1,
      });
      await d.tunnel.close(listener);
    });

    test('with its mark only is the tunnel where the mark is enough', async () => {
      d.enrol('POD_ACTIVE', podFlag.POD_MARK_ONLY);
      expect(await d.reasons(() => attempt(d.app, form, outside(), { mark }))).toEqual({ OUT_PASS_TUNNEL: 1 });
      await expectDirect();
    });
  });
});
