/** One HTTP exchange with the API server. */
import { request as requestHttp, type IncomingMessage } from 'node:http';
import { Agent, request as requestHttps } from 'node:https';
import { version } from '../base/version.ts';
import type { Credentials } from './credentials.ts';
import { KubernetesError } from './errors.ts';
import { errorOfStatus } from './status.ts';

/** Idle connections kept; watches and bursts have as many as they need. */
const IDLE_CONNECTIONS = 16;
/** An idle one is ended by us before the server does it (after 90 s), or a request might meet the end on its way. */
const IDLE_MS = 60_000;
/** To notice a peer that is gone without a word; the kernel's own default is two hours. */
const TCP_KEEPALIVE_MS = 30_000;

const CLOSED = new Error('the client was closed');

export interface HttpRequest {
  /** for messages: "list", "create" */
  verb: string;
  method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';
  path: string;
  query?: Record<string, string>;
  body?: unknown;
  contentType?: string;
}

export class HttpExchange {
  readonly #credentials: Credentials;
  readonly #agent = new Agent({ keepAlive: true, maxFreeSockets: IDLE_CONNECTIONS, timeout: IDLE_MS });
  readonly #asked = new Set<AbortController>();
  #closed = false;

  constructor(credentials: Credentials) {
    this.#credentials = credentials;
  }

  /**
   * Up to the head of an answer that is not a refusal. The body is the caller's to read, and fails when the signal aborts.
   * @throws KubernetesError
   */
  async open(request: HttpRequest, signal: AbortSignal): Promise<IncomingMessage> {
    const { server, options, proxy } = await this.#credentials.access();
    const payload = request.body === undefined ? undefined : Buffer.from(JSON.stringify(request.body));
    const plain = server.protocol === 'http:';
    const response = await new Promise<IncomingMessage>((resolve, reject) => {
      const outgoing = (plain ? requestHttp : requestHttps)({
        ...options,
        // A plain server (kubectl proxy) gets connections of Node's own agent.
        ...(proxy !== undefined ? { agent: proxy } : plain ? {} : { agent: this.#agent }),
        protocol: server.protocol,
        host: server.hostname.replace(/^\[|\]$/g, ''),
        port: server.port,
        method: request.method,
        path: pathOf(server, request),
        signal,
        headers: {
          ...options.headers,
          accept: 'application/json',
          'user-agent': `culvert/${version}`,
          ...(payload === undefined ? {} : { 'content-type': request.contentType ?? 'application/json', 'content-length': payload.length }),
        },
      });
      outgoing.on('socket', (socket) => {
        socket.setKeepAlive(true, TCP_KEEPALIVE_MS);
      });
      outgoing.on('error', reject);
      outgoing.on('response', resolve);
      outgoing.end(payload);
    }).catch((error: unknown) => {
      throw broken(request, signal, error);
    });
    const status = response.statusCode ?? 0;
    if (status >= 200 && status < 300) return response;
    const body = await readBody(request, response, signal);
    throw errorOfStatus(`${request.verb} ${request.path}`, status, body, response.headers['retry-after']);
  }

  /** Whoever waits for an answer, or asks from now on, has none; streams are ended by those who opened them. */
  close(): void {
    this.#closed = true;
    for (const asked of this.#asked) asked.abort(CLOSED);
  }

  /** @throws KubernetesError, also when the answer is no JSON */
  async json(request: HttpRequest, deadlineMs: number, signal?: AbortSignal): Promise<unknown> {
    signal?.throwIfAborted();
    const deadline = new AbortController();
    const abort = (): void => deadline.abort(signal?.reason);
    signal?.addEventListener('abort', abort);
    if (this.#closed) deadline.abort(CLOSED);
    this.#asked.add(deadline);
    const timer = setTimeout(() => deadline.abort(new Error(`no answer within ${deadlineMs / 1000} s`)), deadlineMs);
    try {
      const response = await this.open(request, deadline.signal);
      const text = await readBody(request, response, deadline.signal);
      try {
        return JSON.parse(text);
      } catch (error) {
        throw new KubernetesError(`${request.verb} ${request.path}: the answer is no JSON`, { status: response.statusCode ?? 0 }, error);
      }
    } finally {
      this.#asked.delete(deadline);
      clearTimeout(timer);
      signal?.removeEventListener('abort', abort);
    }
  }
}

function pathOf(server: URL, { path, query }: HttpRequest): string {
  const parameters = new URLSearchParams(query).toString();
  const separator = parameters === '' ? '' : path.includes('?') ? '&' : '?';
  return `${server.pathname.replace(/\/$/, '')}${path}${separator}${parameters}`;
}

async function readBody(request: HttpRequest, response: IncomingMessage, signal: AbortSignal): Promise<string> {
  const chunks: Buffer[] = [];
  try {
    for await (const chunk of response) chunks.push(chunk as Buffer);
  } catch (error) {
    throw broken(request, signal, error);
  }
  return Buffer.concat(chunks).toString('utf8');
}

/** An abort is told by its reason, not by what it did to the socket. */
function broken({ verb, path }: HttpRequest, signal: AbortSignal, error: unknown): KubernetesError {
  return new KubernetesError(`${verb} ${path}`, { status: 0 }, signal.aborted ? signal.reason : error);
}
