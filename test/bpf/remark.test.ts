/** A mark that is changed between connect(2) and a SYN: deferred to the first write, or sent again after the first got no answer. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { podFlag } from '../../src/maps/index.ts';
import { Datapath, familyOf, forms, type Form } from '../support/bpf-datapath.ts';
import type { End, SocketProcess } from '../support/bpf-sockets.ts';

const PORT = 8080;
const TCP = 6;
const TCP_FASTOPEN_CONNECT = 30;
const TCP_FASTOPEN_NO_COOKIE = 34;

let d: Datapath;
let outsideListener: number;
let tunnelListener: number;

beforeAll(async () => {
  d = await Datapath.create();
  outsideListener = await d.outside.listen(PORT);
});
afterAll(() => d.close());
beforeEach(async () => {
  d.withdraw();
  d.enrol();
  tunnelListener = await d.tunnel.tunnelListen(15001);
});
afterEach(() => d.tunnel.close(tunnelListener));

const outside = (form: Form): End => ({ address: d.address(d.outsidePod, form), port: PORT });

/** connect(2) that sends nothing. */
async function deferred(who: SocketProcess, form: Form, to: End, mark = 0): Promise<number> {
  const fd = await who.socket(familyOf(form));
  if (mark !== 0) await who.setMark(fd, mark);
  await who.call('set', fd, TCP, TCP_FASTOPEN_NO_COOKIE, 1);
  await who.call('set', fd, TCP, TCP_FASTOPEN_CONNECT, 1);
  await who.call('start', fd, to.address, to.port);
  return fd;
}

async function accepted(who: SocketProcess, listener: number): Promise<void> {
  await who.close((await who.accept(listener)).fd);
}

describe.each(forms)('by %s', (form) => {
  test.each([0, 0x539, 0x12345222])('deferred, then mark 0x%s: captured all the same, other bits kept', async (mark) => {
    const fd = await deferred(d.app, form, outside(form));
    await d.app.setMark(fd, mark);
    expect(await d.reasons(() => d.app.send(fd, 'x'))).toEqual({ MISC_REMARKED: 1, OUT_REDIRECT_ACCEPTED: 1 });
    expect(await d.app.mark(fd)).toBe((mark & ~0xfff) | 0x111);
    await accepted(d.tunnel, tunnelListener);
    await d.app.close(fd);
  });

  test('deferred before its pod was active, sent after: captured', async () => {
    d.enrol('POD_PREPARED');
    const fd = await deferred(d.app, form, outside(form));
    d.enrol();
    expect(await d.reasons(() => d.app.send(fd, 'x'))).toEqual({ MISC_REMARKED: 1, OUT_REDIRECT_ACCEPTED: 1 });
    await accepted(d.tunnel, tunnelListener);
    await d.app.close(fd);
  });

  test("what passes keeps its mark: the tunnel's, an own address, a pod that drains", async () => {
    const own = { address: d.address(d.pod, form), port: PORT };
    const listener = await d.app.listen(PORT);
    const fds = [await deferred(d.tunnel, form, outside(form), 0x539)];
    expect(await d.reasons(() => d.tunnel.send(fds[0]!, 'x'))).toEqual({});
    await accepted(d.outside, outsideListener);
    const toOwn = await deferred(d.app, form, own, 0x222);
    expect(await d.reasons(() => d.app.send(toOwn, 'x'))).toEqual({ IN_PASS_SELF: 1 });
    await accepted(d.app, listener);
    d.enrol('POD_DRAINING');
    const draining = await deferred(d.app, form, outside(form), 0x222);
    expect(await d.reasons(() => d.app.send(draining, 'x'))).toEqual({});
    await accepted(d.outside, outsideListener);
    expect(await Promise.all([d.tunnel.mark(fds[0]!), d.app.mark(toOwn), d.app.mark(draining)])).toEqual([0x539, 0x222, 0x222]);
    await d.tunnel.close(...fds);
    await d.app.close(toOwn, draining, listener);
  });
});

test('where the mark is enough, a deferred socket that gets it passes', async () => {
  d.enrol('POD_ACTIVE', podFlag.POD_MARK_ONLY);
  const fd = await deferred(d.app, 'v4', outside('v4'));
  await d.app.setMark(fd, 0x539);
  expect(await d.reasons(() => d.app.send(fd, 'x'))).toEqual({});
  await accepted(d.outside, outsideListener);
  await d.app.close(fd);
});

test('a SYN that was not answered goes the same way again, whatever mark the socket has by then', async () => {
  const { address, port } = outside('v4');
  const fd = await d.app.socket(4);
  await d.app.call('md5', fd, address, 8); // the tunnel's listener has no such key and drops it
  await d.app.call('start', fd, address, port);
  await d.app.setMark(fd, 0);
  await d.app.call('md5', fd, address, 0);
  // the kernel's own lookup counts each SYN
  expect(await d.reasons(() => d.app.call('finish', fd, 5000))).toEqual({ MISC_REMARKED: 1, OUT_REDIRECT_ACCEPTED: 1 });
  await accepted(d.tunnel, tunnelListener);
  await d.app.close(fd);
});
