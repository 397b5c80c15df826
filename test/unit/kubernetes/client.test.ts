import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import type { WatchEvent } from '../../../src/kubernetes/api.ts';
import { connectKubernetes } from '../../../src/kubernetes/client.ts';
import { isKubernetes } from '../../../src/kubernetes/errors.ts';
import { servePlain, type PlainServer } from '../../support/kubernetes/scripted.ts';

let server: PlainServer | undefined;
afterEach(() => {
  server?.close();
  server = undefined;
});

const serve = async (handler: (request: IncomingMessage, response: ServerResponse) => void): Promise<PlainServer['api']> => {
  server = await servePlain(handler);
  return server.api;
};
const answer = (status: number, body: string) => (_: IncomingMessage, response: ServerResponse) =>
  void response.writeHead(status).end(body);
const failure = async (asking: Promise<unknown>): Promise<unknown> => {
  try {
    await asking;
  } catch (error) {
    return error;
  }
  throw new Error('it did not fail');
};

describe('Kubernetes client', () => {
  it('has undefined for what does not exist, and removes it without complaint', async () => {
    const api = await serve(answer(404, '{"kind":"Status","message":"pods \\"web\\" not found","reason":"NotFound","code":404}'));
    expect(await api.get('/api/v1/namespaces/shop/pods/web')).toBeUndefined();
    await api.remove('/api/v1/namespaces/shop/pods/web');
  });

  it('says what the server said, with its status and reason', async () => {
    const api = await serve(answer(409, '{"kind":"Status","message":"it was modified","reason":"Conflict","code":409}'));
    const error = await failure(api.replace('/api/v1/nodes/a', { metadata: { name: 'a' } }));
    expect(error).toMatchObject({ code: 'KUBERNETES', status: 409, reason: 'Conflict', retryable: true });
    expect(String(error)).toContain('replace /api/v1/nodes/a: it was modified');
  });

  it.each([
    [502, '<html>Bad gateway</html>', 502, '<html>Bad gateway'],
    [500, '', 500, 'HTTP status 500'],
    [200, 'no json', 200, 'no JSON'],
    [200, '[]', 0, 'no list'],
    [200, '{"metadata":{"resourceVersion":1},"items":[]}', 0, 'no list'],
    [200, '{"metadata":{"resourceVersion":"1"},"items":{}}', 0, 'no list'],
  ])('refuses to take %s %s for a list', async (status, body, expected, text) => {
    const api = await serve(answer(status, body));
    const error = await failure(api.list('/api/v1/pods'));
    expect(error).toMatchObject({ code: 'KUBERNETES', status: expected });
    expect(String(error)).toContain(text);
  });

  it('has status 0 when nobody answers', async () => {
    const api = await serve((request) => request.socket.destroy());
    expect(isKubernetes(await failure(api.list('/api/v1/pods')), 0)).toBe(true);
  });

  it('sends patches with their kind and its field manager', async () => {
    const seen: (string | undefined)[] = [];
    const api = await serve((request, response) => {
      seen.push(`${request.method} ${request.url} ${request.headers['content-type']}`);
      response.end('{"metadata":{"name":"a"}}');
    });
    await api.patch('/api/v1/nodes/a', {}, 'merge');
    await api.patch('/api/v1/nodes/a', {}, 'apply');
    expect(seen).toEqual([
      'PATCH /api/v1/nodes/a?fieldManager=test application/merge-patch+json',
      'PATCH /api/v1/nodes/a?fieldManager=test&force=true application/apply-patch+yaml',
    ]);
  });

  it('is let in by what an exec plugin of the kubeconfig prints', async () => {
    const credential = { apiVersion: 'client.authentication.k8s.io/v1', kind: 'ExecCredential', status: { token: 'from-plugin' } };
    const exec = {
      apiVersion: credential.apiVersion,
      command: 'printf',
      args: ['%s', JSON.stringify(credential)],
      interactiveMode: 'Never',
    };
    const seen: (string | undefined)[] = [];
    server = await servePlain(
      (request, response) => {
        seen.push(request.headers.authorization);
        response.end('{"metadata":{"name":"a"}}');
      },
      { exec },
    );
    await server.api.get('/api/v1/nodes/a');
    expect(seen).toEqual(['Bearer from-plugin']);
  });

  it('says which file has no such context, and takes it up once it is mended', async () => {
    const dir = mkdtempSync(join(tmpdir(), 'cvt-kubeconfig-'));
    const kubeconfig = join(dir, 'config');
    const config = (server: string): string =>
      JSON.stringify({
        'current-context': 'a',
        contexts: [{ name: 'a', context: { cluster: 'a', user: 'a' } }],
        clusters: [{ name: 'a', cluster: { server } }],
        users: [{ name: 'a', user: {} }],
      });
    try {
      writeFileSync(kubeconfig, config('https://127.0.0.1:1'));
      const api = connectKubernetes({ kubeconfig, context: 'b', fieldManager: 'test' });
      expect(String(((await failure(api.list('/x'))) as Error).cause)).toContain(`no context 'b' in ${kubeconfig}`);
      writeFileSync(kubeconfig, config('https://127.0.0.1:1').replaceAll('"a"', '"b"'));
      expect(await failure(api.list('/x'))).toMatchObject({ status: 0, systemCode: 'ECONNREFUSED' });
    } finally {
      rmSync(dir, { recursive: true });
    }
  });

  it('gives up a list when told to', async () => {
    const abort = new AbortController();
    const api = await serve(() => abort.abort());
    expect(isKubernetes(await failure(api.list('/api/v1/pods', {}, abort.signal)), 0)).toBe(true);
  });

  it('says so when there is neither a kubeconfig nor a pod around it', async () => {
    const api = connectKubernetes({ fieldManager: 'test' });
    expect(String(((await failure(api.list('/api/v1/pods'))) as Error).cause)).toContain('no pod of a cluster');
  });
});

describe('a watch', () => {
  const watch = async (
    chunks: readonly (string | Buffer)[],
    how: 'end' | 'destroy' = 'end',
  ): Promise<{ events: WatchEvent[]; error: unknown }> => {
    const api = await serve((_, response) => {
      response.writeHead(200);
      void (async () => {
        for (const chunk of chunks) if (!response.write(chunk)) await once(response, 'drain');
        if (how === 'end') response.end();
        else setImmediate(() => response.destroy());
      })();
    });
    const events: WatchEvent[] = [];
    let error: unknown;
    await api
      .watch('/api/v1/pods', {}, (event) => events.push(event), new AbortController().signal)
      .catch((cause: unknown) => {
        error = cause;
      });
    return { events, error };
  };
  const event = (name: string, extra = ''): string => `{"type":"ADDED","object":{"metadata":{"name":"${name}"},"spec":"${extra}"}}\n`;

  it('reads events that are megabytes long and cut anywhere', async () => {
    const bytes = Buffer.from(event('a') + event('b', 'ü'.repeat(2_000_000)) + event('c'));
    const cuts = [0, 3, 70, 71, 1_000_001, 3_999_999, bytes.length];
    const { events, error } = await watch(cuts.slice(1).map((cut, index) => bytes.subarray(cuts[index], cut)));
    expect(error).toBeUndefined();
    expect(events.map(({ object }) => object.metadata.name)).toEqual(['a', 'b', 'c']);
    expect(events[1]?.object['spec']).toHaveLength(2_000_000);
  });

  it('ends when the connection breaks, also within an event', async () => {
    const { events, error } = await watch([event('a'), event('b').slice(0, 20)], 'destroy');
    expect([events.length, error]).toEqual([1, undefined]);
  });

  it('fails with the status of an ERROR event', async () => {
    const { error } = await watch([
      event('a'),
      '{"type":"ERROR","object":{"kind":"Status","code":410,"reason":"Expired","message":"too old"}}\n',
    ]);
    expect(error).toMatchObject({ status: 410, reason: 'Expired' });
  });

  it.each(['nonsense', '{}', '[]', 'null', '{"type":"ADDED"}', '{"type":"ODD","object":{"metadata":{}}}', '{"type":"ADDED","object":{}}'])(
    'names the line that is no event: %s',
    async (bad) => {
      const { events, error } = await watch([event('a'), `${bad}\n`, event('c')]);
      expect(events).toHaveLength(1);
      expect(String(error)).toContain(`line 2 is no event: ${JSON.stringify(bad)}`);
    },
  );

  it('returns when aborted, and tells nothing more', async () => {
    const abort = new AbortController();
    const api = await serve((_, response) => void response.writeHead(200).write(event('a') + event('b')));
    const events: WatchEvent[] = [];
    await api.watch(
      '/api/v1/pods',
      {},
      (arrived) => {
        events.push(arrived);
        abort.abort();
      },
      abort.signal,
    );
    expect(events).toHaveLength(1);
  });
});
