/** One watch connection: a stream of JSON lines, each an event. */
import type { IncomingMessage } from 'node:http';
import type { KubeApi, WatchEvent } from './api.ts';
import { KubernetesError, isKubernetes } from './errors.ts';
import type { HttpExchange, HttpRequest } from './http.ts';
import { isRecord } from './json.ts';
import { LineSplitter } from './lines.ts';
import { errorOfAnswer } from './status.ts';

/** Until the server says that the watch stands. */
const HEAD_DEADLINE_MS = 30_000;
/**
 * The server sends bookmarks about once a minute. A connection without any is ended as if the server had done it: connecting again
 * costs nothing, and tells a quiet server from one that is gone.
 */
const QUIET_MS = 180_000;
/** An object has at most a few MB. */
const LINE_LIMIT = 64 * 1024 * 1024;
const EXCERPT = 80;
const TYPES: ReadonlySet<unknown> = new Set(['ADDED', 'MODIFIED', 'DELETED', 'BOOKMARK']);

export async function watchPath(http: HttpExchange, ...watch: Parameters<KubeApi['watch']>): Promise<void> {
  const [path, query, onEvent, signal, onOpen] = watch;
  const request: HttpRequest = { verb: 'watch', method: 'GET', path, query: { allowWatchBookmarks: 'true', ...query, watch: 'true' } };
  const ended = new AbortController();
  const abort = (): void => ended.abort(signal.reason);
  const stopped = (): boolean => signal.aborted;
  if (stopped()) return;
  signal.addEventListener('abort', abort);
  const late = setTimeout(() => ended.abort(new Error(`no answer within ${HEAD_DEADLINE_MS / 1000} s`)), HEAD_DEADLINE_MS);
  try {
    const response = await http.open(request, ended.signal);
    clearTimeout(late);
    onOpen?.();
    response.setTimeout(QUIET_MS, () => response.destroy());
    const read = reader(path, onEvent);
    const lines = new LineSplitter((line) => {
      if (!stopped()) read(line); // one chunk may hold several, and the first may have been enough
    }, LINE_LIMIT);
    await drain(response, (chunk) => lines.push(chunk));
  } catch (error) {
    if (stopped()) return;
    throw isKubernetes(error) ? error : new KubernetesError(`watch ${path}`, { status: 0 }, error);
  } finally {
    clearTimeout(late);
    signal.removeEventListener('abort', abort);
    ended.abort(); // whatever is left of the connection
  }
}

/** Until the stream ends or breaks, which is the same to a watch; rejects with what `onChunk` throws. */
function drain(response: IncomingMessage, onChunk: (chunk: Buffer) => void): Promise<void> {
  return new Promise((resolve, reject) => {
    const take = (chunk: Buffer): void => {
      try {
        onChunk(chunk);
      } catch (error) {
        response.off('data', take); // what is read already would still come
        response.destroy();
        reject(error instanceof Error ? error : new Error(String(error)));
      }
    };
    response.on('data', take);
    response.on('error', () => undefined); // 'close' follows
    response.on('close', resolve);
  });
}

function reader(path: string, onEvent: (event: WatchEvent) => void): (line: string) => void {
  let count = 0;
  return (line) => {
    count++;
    if (line === '') return;
    const event = parse(line);
    if (isRecord(event) && isRecord(event['object'])) {
      if (event['type'] === 'ERROR') throw errorOfAnswer(`watch ${path}`, 500, event['object']);
      if (TYPES.has(event['type']) && isRecord(event['object']['metadata'])) {
        onEvent(event as unknown as WatchEvent);
        return;
      }
    }
    throw new KubernetesError(`watch ${path}: line ${count} is no event: ${JSON.stringify(line.slice(0, EXCERPT))}`, { status: 0 });
  };
}

function parse(line: string): unknown {
  try {
    return JSON.parse(line);
  } catch {
    return undefined;
  }
}
