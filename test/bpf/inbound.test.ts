/** Connections into a pod, on real sockets: through the tunnel from outside, past it for the node's own probes. */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { podFlag } from '../../src/maps/index.ts';
import { Datapath, familyOf, forms } from '../support/bpf-datapath.ts';
import { codeOf, type End } from '../support/bpf-sockets.ts';

const PORT = 8080;

let d: Datapath;
let app: number;
let inbound: number;
let hbone: number;

beforeAll(async () => {
  d = await Datapath.create();
  d.enrol();
  app = await d.app.listen(PORT);
  inbound = await d.tunnel.tunnelListen(15006);
  hbone = await d.tunnel.tunnelListen(15008);
});
afterAll(() => d.close());
beforeEach(() => d.enrol());

describe.each(forms)('by %s', (form) => {
  const pod = (port = PORT): End => ({ address: d.address(d.pod, form), port });
  const seen = (address: string): string => (form === 'v6' ? address : `::ffff:${address}`);
  const outsideIp = (): string => (form === 'v6' ? d.outsidePod.ip6 : d.outsidePod.ip4);
  const nodeIp = form === 'v6' ? 'fd77::1' : '10.77.0.1';

  test.each([PORT, 15001, 15053])('from outside to port %i: the tunnel sees both ends', async (port) => {
    const fd = await d.outside.socket(familyOf(form));
    expect(await d.reasons(() => d.outside.connect(fd, pod(port)))).toEqual({ IN_REDIRECT_TUNNEL: 1 });
    const accepted = await d.tunnel.accept(inbound);
    expect(accepted.peer.address).toBe(seen(outsideIp()));
    expect(await d.tunnel.name(accepted.fd)).toEqual({ address: seen(form === 'v6' ? d.pod.ip6 : d.pod.ip4), port });
    await d.outside.close(fd);
    await d.tunnel.close(accepted.fd);
  });

  test.each(['POD_ACTIVE', 'POD_DRAINING'] as const)('HBONE reaches the tunnel in state %s', async (state) => {
    d.enrol(state);
    const fd = await d.outside.socket(familyOf(form));
    const reason = state === 'POD_ACTIVE' ? 'IN_REDIRECT_HBONE' : 'IN_PASS_HBONE';
    expect(await d.reasons(() => d.outside.connect(fd, pod(15008)))).toEqual({ [reason]: 1 });
    const accepted = await d.tunnel.accept(hbone);
    await d.outside.close(fd);
    await d.tunnel.close(accepted.fd);
  });

  test.each([
    { name: 'prepared', arrange: () => d.enrol('POD_PREPARED'), reason: 'IN_PASS_INACTIVE' },
    { name: 'draining', arrange: () => d.enrol('POD_DRAINING'), reason: 'IN_PASS_INACTIVE' },
    { name: 'in ingress mode', arrange: () => d.enrol('POD_ACTIVE', podFlag.POD_INGRESS_MODE), reason: 'IN_PASS_INGRESS' },
  ])('$name: the app itself answers', async ({ arrange, reason }) => {
    arrange();
    const fd = await d.outside.socket(familyOf(form));
    expect(await d.reasons(() => d.outside.connect(fd, pod()))).toEqual({ [reason]: 1 });
    const accepted = await d.app.accept(app);
    await d.outside.close(fd);
    await d.app.close(accepted.fd);
  });

  test('a probe of the node passes, the app sees the node, and nothing of it stays', async () => {
    const fd = await d.kubelet.socket(familyOf(form));
    expect(await d.reasons(() => d.kubelet.connect(fd, pod()))).toEqual({ MISC_EXEMPT_ADDED: 1, IN_PASS_EXEMPT: 1 });
    const accepted = await d.app.accept(app);
    expect(accepted.peer.address).toBe(seen(nodeIp));
    expect(d.maps.exempt.keys()).toEqual([
      {
        cookie: d.cookie,
        src: nodeIp,
        sport: (await d.kubelet.name(fd)).port,
        dst: form === 'v6' ? d.pod.ip6 : d.pod.ip4,
        dport: PORT,
      },
    ]);
    const reasons = await d.reasons(async () => {
      await d.kubelet.close(fd);
      await d.app.close(accepted.fd);
      await new Promise((resolve) => setTimeout(resolve, 50));
    });
    expect(reasons).toEqual({ MISC_EXEMPT_DELETED: 1 });
    expect(d.maps.exempt.keys()).toEqual([]);
  });

  test('a probe of a closed port is refused, and nothing of it stays', async () => {
    const fd = await d.kubelet.socket(familyOf(form));
    expect(await codeOf(d.kubelet.connect(fd, pod(9)))).toBe('ECONNREFUSED');
    await d.kubelet.close(fd);
    expect(d.maps.exempt.keys()).toEqual([]);
  });

  test('a probe of a pod whose address is not known goes through the tunnel', async () => {
    d.maps.podByAddr.deleteWhere(() => true);
    const fd = await d.kubelet.socket(familyOf(form));
    expect(await d.reasons(() => d.kubelet.connect(fd, pod()))).toEqual({ IN_REDIRECT_TUNNEL: 1 });
    const accepted = await d.tunnel.accept(inbound);
    await d.kubelet.close(fd);
    await d.tunnel.close(accepted.fd);
  });
});

describe('when the tunnel is gone', () => {
  test.each(forms)('connections from outside are refused at once, probes pass: %s', async (form) => {
    await d.tunnel.close(inbound);
    const to = { address: d.address(d.pod, form), port: PORT };
    const fd = await d.outside.socket(familyOf(form));
    let code: string | undefined;
    expect(await d.reasons(async () => (code = await codeOf(d.outside.connect(fd, to))))).toEqual({ IN_DROP_NO_TUNNEL: 1 });
    expect(code).toBe('ECONNREFUSED');
    const probe = await d.kubelet.socket(familyOf(form));
    await d.kubelet.connect(probe, to);
    const accepted = await d.app.accept(app);
    await d.outside.close(fd);
    await d.kubelet.close(probe);
    await d.app.close(accepted.fd);
    inbound = await d.tunnel.tunnelListen(15006);
  });
});
