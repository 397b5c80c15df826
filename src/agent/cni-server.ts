/** The plugin's door: HTTP over a unix socket that only root may open. Bodies are small JSON objects, errors are JSON too. */
import { chmodSync, mkdirSync, rmSync } from 'node:fs';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { dirname } from 'node:path';
import { z } from 'zod';
import { CulvertError, describe } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import type {
  CniAddRequest,
  CniAddResponse,
  CniCheckRequest,
  CniCheckResponse,
  CniDelRequest,
  CniGcRequest,
  CniGcResponse,
  CniStatusResponse,
} from './api.ts';

export interface CniHandlers {
  add(request: CniAddRequest): Promise<CniAddResponse>;
  del(request: CniDelRequest): Promise<void>;
  check(request: CniCheckRequest): Promise<CniCheckResponse>;
  gc(request: CniGcRequest): Promise<CniGcResponse>;
  status(): CniStatusResponse;
}

/** A list of valid attachments of 10,000 pods fits, and stdin of the plugin is limited to the same. */
const MAX_BODY = 1 << 20;
/** An agent that is told to stop has 30 s for all of it. A plugin that is not answered by then goes by enrolment.json, as without an agent. */
const CLOSE_MS = 5000;
const name = z.string().min(1).max(253);
/** The file that remembers it is called by it. */
const containerId = z
  .string()
  .max(200)
  .regex(/^[a-zA-Z0-9][a-zA-Z0-9_.-]*$/, 'is not a container id');
const ifname = z
  .string()
  .max(15)
  .regex(/^[^/:\s]+$/, 'is not an interface name');
const delSchema = z.object({
  containerId: z.string(),
  netns: z.string(),
  ifname: z.string(),
  podNamespace: z.string(),
  podName: z.string(),
  podUid: z.string(),
});
const addSchema = z.object({
  network: name,
  containerId,
  netns: z.string().startsWith('/'),
  ifname,
  podNamespace: name,
  podName: name,
  podUid: z.string(),
  ips: z.array(z.union([z.ipv4(), z.ipv6()])).max(256),
});
const gcSchema = z.object({ network: name, valid: z.array(z.object({ containerId: z.string(), ifname: z.string() })) });

/** @param verb "add"; "" for what is none */
export type CniObserver = (verb: string, status: number, seconds: number) => void;

/** Listening when it resolves. */
export async function serveCni(
  path: string,
  handlers: CniHandlers,
  log: Logger,
  observe: CniObserver = () => undefined,
): Promise<{ close(): Promise<void> }> {
  mkdirSync(dirname(path), { recursive: true });
  rmSync(path, { force: true });
  const server = createServer((request, response) => {
    const begun = performance.now();
    const observed = (status: number): void => observe(verbOf(request), status, (performance.now() - begun) / 1000);
    answer(request, handlers).then(
      (body) => {
        observed(200);
        reply(response, 200, body);
      },
      (error: unknown) => {
        const { status, fault } = faultOf(error);
        log.warn({ url: request.url, ...fault }, 'plugin request failed');
        observed(status);
        reply(response, status, { error: fault });
      },
    );
  });
  server.keepAliveTimeout = 1; // one request per plugin run
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(path, resolve);
    chmodSync(path, 0o600); // bound by now; nobody could have been accepted before this turn ends
  });
  return {
    close: () =>
      new Promise((resolve) => {
        const late = setTimeout(() => server.closeAllConnections(), CLOSE_MS); // one that never asked anything is not idle to Node
        server.close(() => {
          clearTimeout(late);
          resolve();
        });
        server.closeIdleConnections();
      }),
  };
}

async function answer(request: IncomingMessage, handlers: CniHandlers): Promise<object> {
  if (request.method !== 'POST') throw new HttpFault(405, `method ${request.method ?? ''} is not POST`);
  const text = await body(request);
  const { url = '' } = request;
  switch (url) {
    case '/v1/add':
      return handlers.add(parse(addSchema, text));
    case '/v1/del':
      await handlers.del(parse(delSchema, text));
      return {};
    case '/v1/check':
      return handlers.check(parse(addSchema, text));
    case '/v1/gc':
      return handlers.gc(parse(gcSchema, text));
    case '/v1/status':
      return handlers.status();
  }
  throw new HttpFault(404, `there is no ${url}`);
}

function verbOf({ url = '' }: IncomingMessage): string {
  return /^\/v1\/(add|del|check|gc|status)$/.exec(url)?.[1] ?? '';
}

async function body(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > MAX_BODY) throw new HttpFault(413, `body exceeds ${MAX_BODY} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}

function parse<S extends z.ZodType>(schema: S, text: string): z.infer<S> {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new HttpFault(400, `body is no JSON: ${describe(error)}`);
  }
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  throw new HttpFault(400, result.error.issues.map((issue) => `${issue.path.join('.') || 'body'}: ${issue.message}`).join('; '));
}

class HttpFault extends Error {
  readonly status: number;

  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

function faultOf(error: unknown): { status: number; fault: { code: string; message: string; retryable: boolean } } {
  if (error instanceof HttpFault) return { status: error.status, fault: { code: 'CNI_INPUT', message: error.message, retryable: false } };
  if (error instanceof CulvertError)
    return { status: 500, fault: { code: error.code, message: describe(error), retryable: error.retryable } };
  return { status: 500, fault: { code: 'SYSTEM', message: describe(error), retryable: true } };
}

function reply(response: ServerResponse, status: number, body: object): void {
  const text = JSON.stringify(body);
  response.writeHead(status, { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text), connection: 'close' });
  response.end(text);
}
