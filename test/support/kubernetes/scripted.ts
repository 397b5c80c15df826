/** An HTTP server that speaks the list and watch of one collection as a test tells it to, for what a real server does rarely. */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { KubeApi } from '../../../src/kubernetes/api.ts';
import { connectKubernetes } from '../../../src/kubernetes/client.ts';

type Handler = (request: IncomingMessage, response: ServerResponse) => void;

export interface PlainServer {
  api: KubeApi;
  /** path; gone after `close` */
  kubeconfig: string;
  close(): void;
}

/**
 * A server that answers with what `handler` does, and a client of it.
 * @param user how the kubeconfig lets the client in
 */
export async function servePlain(handler: Handler, user: object = {}): Promise<PlainServer> {
  const server: Server = createServer(handler);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const dir = mkdtempSync(join(tmpdir(), 'cvt-plain-'));
  const kubeconfig = join(dir, 'config');
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const config = {
    'current-context': 'plain',
    contexts: [{ name: 'plain', context: { cluster: 'plain', user: 'nobody' } }],
    clusters: [{ name: 'plain', cluster: { server: url, 'insecure-skip-tls-verify': true } }],
    users: [{ name: 'nobody', user }],
  };
  writeFileSync(kubeconfig, JSON.stringify(config));
  return {
    api: connectKubernetes({ kubeconfig, fieldManager: 'test' }),
    kubeconfig,
    close() {
      server.closeAllConnections();
      server.close();
      rmSync(dir, { recursive: true });
    },
  };
}

/** What was asked of a scripted collection. */
export interface Asked {
  kind: 'list' | 'watch';
  query: URLSearchParams;
}

export class ScriptedCollection {
  readonly asked: Asked[] = [];
  readonly #objects = new Map<string, unknown>();
  readonly #watches = new Set<ServerResponse>();
  readonly #refusals: { kind: Asked['kind']; status: number; times: number }[] = [];
  #version = 100;

  readonly handler: Handler = (request, response) => {
    const query = new URL(request.url ?? '', 'http://test').searchParams;
    const kind = query.get('watch') === 'true' ? 'watch' : 'list';
    this.asked.push({ kind, query });
    const refusal = this.#refusals.find((candidate) => candidate.kind === kind && candidate.times > 0);
    if (refusal !== undefined) {
      refusal.times--;
      response.writeHead(refusal.status).end(JSON.stringify({ kind: 'Status', message: 'told to refuse', code: refusal.status }));
      return;
    }
    response.writeHead(200, { 'content-type': 'application/json' });
    if (kind === 'watch') {
      response.flushHeaders();
      this.#watches.add(response);
      response.on('close', () => this.#watches.delete(response));
      return;
    }
    const from = Number(query.get('continue') ?? 0);
    const limit = Number(query.get('limit') ?? 1000);
    const all = [...this.#objects.values()];
    const next = from + limit < all.length ? String(from + limit) : undefined;
    const metadata = { resourceVersion: String(this.#version), ...(next === undefined ? {} : { continue: next }) };
    response.end(JSON.stringify({ kind: 'List', metadata, items: all.slice(from, from + limit) }));
  };

  /** Puts an object there without an event, as while nobody watched. @returns what is listed */
  put(name: string, extra: object = {}): object {
    const object = { metadata: { namespace: 'shop', name, resourceVersion: String(++this.#version) }, ...extra };
    this.#objects.set(name, object);
    return object;
  }

  putRaw(name: string, object: unknown): void {
    this.#objects.set(name, object);
  }

  /** Takes it away without an event. */
  take(name: string): void {
    this.#objects.delete(name);
    this.#version++;
  }

  /** One line to every watch. */
  line(text: string): void {
    for (const watch of this.#watches) watch.write(`${text}\n`);
  }

  event(type: string, object: unknown): void {
    this.line(JSON.stringify({ type, object }));
  }

  /** Ends every watch: in order, or by breaking the connection. */
  end(how: 'end' | 'break' = 'end'): void {
    for (const watch of this.#watches) {
      if (how === 'end') watch.end();
      else watch.destroy();
    }
  }

  refuse(kind: Asked['kind'], status: number, times = 1): void {
    this.#refusals.push({ kind, status, times });
  }

  get watching(): number {
    return this.#watches.size;
  }

  count(kind: Asked['kind']): number {
    return this.asked.filter((asked) => asked.kind === kind).length;
  }
}
