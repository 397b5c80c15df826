/** An API server that asks for patience, is slow, or answers nothing at all. */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { afterEach, expect, it } from 'vitest';
import { createLogger } from '../../../src/base/log.ts';
import { RateLimit } from '../../../src/kubernetes/rate-limit.ts';
import { PodAnnotations } from '../../../src/sources/kubernetes/annotations.ts';
import { createKubernetesSource } from '../../../src/sources/kubernetes/source.ts';
import { servePlain, type PlainServer } from '../../support/kubernetes/scripted.ts';
import { until } from '../../support/kubernetes/until.ts';

const log = createLogger('test', 'silent');
const POD = { namespace: 'shop', name: 'a', uid: 'u1' };
const KEY = 'ambient.istio.io/redirection';
/** A timer may be early by that much. */
const EARLY_MS = 5;

let server: PlainServer;
afterEach(() => {
  server.close();
});

function refuse(response: ServerResponse, status: number, headers: Record<string, string> = {}): void {
  response.writeHead(status, headers).end(JSON.stringify({ kind: 'Status', reason: 'TooManyRequests', message: 'too busy', code: status }));
}

it('one that says after how long it wants to be asked again is not asked before', async () => {
  const asked: number[] = [];
  server = await servePlain((request, response) => {
    if (request.url?.includes('watch=true') === true) {
      response.writeHead(200).flushHeaders();
    } else if (request.url?.startsWith('/api/v1/pods') === true && asked.push(performance.now()) <= 2) {
      refuse(response, 429, { 'retry-after': '1' });
    } else response.end(JSON.stringify({ metadata: { resourceVersion: '1' }, items: [] }));
  });
  const errors: unknown[] = [];
  const source = createKubernetesSource({ api: server.api, node: 'node1', log });
  const watch = source.watch(
    () => undefined,
    (error) => errors.push(error),
  );
  await until('both collections', () => source.synced());
  watch.close();
  expect(asked).toHaveLength(3);
  for (const [index, time] of asked.slice(1).entries()) expect(time - asked[index]!).toBeGreaterThanOrEqual(1000 - EARLY_MS);
  expect(errors).toMatchObject([{ status: 429, retryAfterMs: 1000, retryable: true }]);
});

it.each([409, 429, 500, 503])('a write that is refused with %i may be tried again', async (status) => {
  server = await servePlain((_request, response) => refuse(response, status));
  const annotations = new PodAnnotations({ api: server.api, observed: () => undefined, log });
  await expect(annotations.write(POD, KEY, 'enabled')).rejects.toMatchObject({ code: 'KUBERNETES', status, retryable: true });
  await expect(annotations.write(POD, KEY, undefined)).rejects.toMatchObject({ code: 'KUBERNETES', status, retryable: true });
});

it('a write without an answer is given up, and the next one is sent', async () => {
  const bodies: string[] = [];
  server = await servePlain((request: IncomingMessage, response) => {
    request.on('data', (chunk: Buffer) => bodies.push(chunk.toString()));
    request.on('end', () => {
      if (bodies.length > 1) response.end(JSON.stringify({ metadata: { ...POD, resourceVersion: '2' } }));
    });
  });
  const annotations = new PodAnnotations({ api: server.api, observed: () => undefined, log, deadlineMs: 100 });
  const first = annotations.write(POD, KEY, 'enabled');
  const second = annotations.write(POD, KEY, undefined);
  await expect(first).rejects.toMatchObject({ status: 0, retryable: true, cause: { message: 'no answer within 0.1 s' } });
  await second;
  expect(bodies.map((body) => JSON.parse(body) as unknown)).toEqual([
    { metadata: { uid: 'u1', annotations: { [KEY]: 'enabled' } } },
    { metadata: { uid: 'u1', annotations: { [KEY]: null } } },
  ]);
});

it('a source that was closed sends nothing more', async () => {
  let asked = 0;
  server = await servePlain((_request, response) => {
    asked++;
    response.end('{}');
  });
  const annotations = new PodAnnotations({ api: server.api, observed: () => undefined, log });
  annotations.close();
  await expect(annotations.write(POD, KEY, 'enabled')).rejects.toMatchObject({ code: 'KUBERNETES', retryable: true });
  expect(asked).toBe(0);
});

it('a burst goes at once, the rest in turn', async () => {
  server = await servePlain(() => undefined);
  const limit = new RateLimit(100, 3);
  const { signal } = new AbortController();
  const begin = performance.now();
  const times = await Promise.all(Array.from({ length: 8 }, () => limit.take(signal).then(() => performance.now() - begin)));
  for (const [index, time] of times.slice(3).entries()) expect(time).toBeGreaterThanOrEqual((index + 1) * 10 - EARLY_MS);
});
