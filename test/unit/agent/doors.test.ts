import { once } from 'node:events';
import { openSync, closeSync, mkdtempSync, rmSync, statSync } from 'node:fs';
import { request as httpRequest } from 'node:http';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { ADMIN_PACKET, adminConnection, type AdminHandler } from '../../../src/agent/admin.ts';
import { serveCni, type CniHandlers } from '../../../src/agent/cni-server.ts';
import { CulvertError } from '../../../src/base/errors.ts';
import { native } from '../../../src/sys/native.ts';

const log = pino({ level: 'silent' });
let directory: string;
const closers: { close(): unknown }[] = [];
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'cvt-doors-'));
});
afterEach(async () => {
  for (const each of closers.splice(0)) await each.close();
  rmSync(directory, { recursive: true });
});

describe('plugin door', () => {
  const add = {
    network: 'k8s',
    containerId: 'c',
    netns: '/ns',
    ifname: 'eth0',
    podNamespace: 'shop',
    podName: 'web',
    podUid: 'u',
    ips: ['10.0.0.1', 'fd00::1'],
  };
  const post = (path: string, body: string, method = 'POST'): Promise<{ status: number; body: unknown }> =>
    new Promise((resolve, reject) => {
      const outgoing = httpRequest({ socketPath: join(directory, 'cni.sock'), path, method, agent: false }, (response) => {
        let text = '';
        response.on('data', (chunk: Buffer) => {
          text += chunk.toString();
        });
        response.on('end', () => {
          resolve({ status: response.statusCode ?? 0, body: JSON.parse(text) });
        });
      });
      outgoing.on('error', reject);
      outgoing.end(body);
    });
  const serve = async (handlers: Partial<CniHandlers>): Promise<void> => {
    closers.push(
      await serveCni(
        join(directory, 'cni.sock'),
        {
          add: () => Promise.resolve({ enrolled: true, reason: 'label' }),
          del: () => Promise.resolve(),
          check: () => Promise.resolve({ enrolled: true, reason: 'label', faults: ['no link'] }),
          gc: ({ valid }) => Promise.resolve({ reaped: valid.map(({ ifname }) => ifname), kept: [] }),
          status: () => ({ ready: false, reason: 'no list yet' }),
          ...handlers,
        },
        log,
      ),
    );
  };

  it('closes although somebody connected and says nothing, or waits for an answer that does not come', async () => {
    await serve({ add: () => new Promise(() => undefined) });
    const silent = connect(join(directory, 'cni.sock'));
    await once(silent, 'connect');
    const waiting = expect(post('/v1/add', JSON.stringify(add))).rejects.toThrow();
    await expect(post('/v1/status', '{}')).resolves.toMatchObject({ status: 200 }); // both were accepted before
    vi.useFakeTimers({ toFake: ['setTimeout'] });
    try {
      const closed = Promise.all(closers.splice(0).map((each) => each.close()));
      vi.runAllTimers();
      await closed;
    } finally {
      vi.useRealTimers();
    }
    await waiting;
    silent.destroy();
  });

  it('answers, for root only', async () => {
    await serve({});
    expect(statSync(join(directory, 'cni.sock')).mode & 0o777).toBe(0o600);
    expect(await post('/v1/add', JSON.stringify(add))).toEqual({ status: 200, body: { enrolled: true, reason: 'label' } });
    expect(await post('/v1/del', JSON.stringify({ ...add, netns: '', podNamespace: '', podName: '' }))).toEqual({ status: 200, body: {} });
    expect(await post('/v1/check', JSON.stringify(add))).toMatchObject({ status: 200, body: { faults: ['no link'] } });
    const valid = Array.from({ length: 10_000 }, () => ({ containerId: 'f'.repeat(64), ifname: 'eth0' })); // more than a node can have
    expect(await post('/v1/gc', JSON.stringify({ network: 'k8s', valid }))).toMatchObject({ status: 200, body: { kept: [] } });
    expect(await post('/v1/status', '{}')).toMatchObject({ status: 200, body: { ready: false, reason: 'no list yet' } });
  });

  it.each([
    ['no JSON', '/v1/add', '{"containerId":', 400, 'body is no JSON'],
    ['a field missing', '/v1/add', JSON.stringify({ ...add, podName: undefined }), 400, 'podName'],
    ['no address', '/v1/add', JSON.stringify({ ...add, ips: ['10.0.0.1/24'] }), 400, 'ips.0'],
    ['another shape', '/v1/del', '[]', 400, 'body'],
    ['a container id that leads elsewhere', '/v1/add', JSON.stringify({ ...add, containerId: '../c' }), 400, 'containerId'],
    ['an interface that leads elsewhere', '/v1/add', JSON.stringify({ ...add, ifname: '../e' }), 400, 'ifname'],
    ['a relative netns', '/v1/check', JSON.stringify({ ...add, netns: 'ns' }), 400, 'netns'],
    ['no list', '/v1/gc', JSON.stringify({ network: 'k8s', valid: null }), 400, 'valid'],
    ['too much', '/v1/add', JSON.stringify({ ...add, podUid: 'u'.repeat(1 << 20) }), 413, 'exceeds'],
    ['another path', '/v2/add', '{}', 404, '/v2/add'],
  ])('refuses %s, naming the field', async (_, path, body, status, message) => {
    await serve({});
    const answer = await post(path, body);
    expect(answer).toMatchObject({ status, body: { error: { code: 'CNI_INPUT', retryable: false } } });
    expect(JSON.stringify(answer.body)).toContain(message);
  });

  it('passes on what went wrong, and whether to retry', async () => {
    await serve({
      add: () => Promise.reject(new CulvertError('ZDS_NO_TUNNEL', 'none is connected')),
      del: () => Promise.reject(new Error('boom')),
    });
    expect(await post('/v1/add', JSON.stringify(add))).toEqual({
      status: 500,
      body: { error: { code: 'ZDS_NO_TUNNEL', message: 'none is connected', retryable: true } },
    });
    expect(await post('/v1/del', JSON.stringify(add))).toMatchObject({ status: 500, body: { error: { code: 'SYSTEM', message: 'boom' } } });
    expect((await post('/v1/add', '', 'GET')).status).toBe(405);
  });
});

describe('admin door', () => {
  const ask = (packet: Uint8Array, fd?: number): Promise<unknown> =>
    new Promise((resolve, reject) => {
      const parts: Uint8Array[] = [];
      const socket = native.seqpacketConnect(join(directory, 'admin.sock'), 1 << 17, {
        onPacket(data) {
          parts.push(data.slice(1));
          if (data[0] !== 1) return;
          resolve(JSON.parse(Buffer.concat(parts).toString()));
          socket.close();
        },
        onClose: () => {
          reject(new Error('closed without an answer'));
        },
      });
      socket.send(packet, fd);
    });
  const serve = (handler: AdminHandler): void => {
    closers.push(native.seqpacketListen(join(directory, 'admin.sock'), 0o600, ADMIN_PACKET, adminConnection(handler, log)));
  };
  const json = (value: unknown): Buffer => Buffer.from(JSON.stringify(value));

  it('cuts a long answer into packets', async () => {
    const long = 'é'.repeat(200_000);
    serve(() => Promise.resolve(long));
    expect(await ask(json({ op: 'pods' }))).toEqual({ ok: true, result: long });
  });

  it('passes a netns on, and closes it afterwards', async () => {
    let seen = -1;
    serve((request, fd) => {
      seen = fd ?? -1;
      return Promise.resolve([request, String(native.netnsCookie(seen))]);
    });
    const fd = openSync('/proc/self/ns/net', 'r');
    expect(await ask(json({ op: 'redirect-on', flags: { dns: false } }), fd)).toEqual({
      ok: true,
      result: [{ op: 'redirect-on', flags: { dns: false } }, String(native.netnsCookie(fd))],
    });
    closeSync(fd);
    expect(() => {
      closeSync(seen);
    }).toThrow('EBADF');
  });

  it.each([
    ['garbage', Buffer.from('{op'), 'USAGE', 'no JSON'],
    ['an unknown verb', json({ op: 'reboot' }), 'USAGE', 'op'],
    ['a bad field', json({ op: 'verify', pod: 'web' }), 'USAGE', 'pod: must be namespace/name'],
    ['an unknown field', json({ op: 'status', x: 1 }), 'USAGE', 'x'],
    ['an oversized request', Buffer.alloc(ADMIN_PACKET + 10, 32), 'USAGE', 'too long'],
  ])('refuses %s', async (_, packet, code, message) => {
    serve(() => Promise.resolve('never'));
    const answer = (await ask(packet)) as { error: { code: string; message: string } };
    expect(answer.error.code).toBe(code);
    expect(answer.error.message).toContain(message);
  });

  it('says what failed', async () => {
    serve(() => Promise.reject(new CulvertError('POD_UNKNOWN', 'no such pod')));
    expect(await ask(json({ op: 'status' }))).toEqual({
      ok: false,
      error: { code: 'POD_UNKNOWN', message: 'no such pod', retryable: true },
    });
  });
});
