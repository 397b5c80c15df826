/**
 * The tunnel's end of ZDS: one connection to the agent, made again for ever. Requests are handed on one at a time and acknowledged
 * in order; a broken request is refused and the connection begun anew, so that a fresh snapshot clears up whatever was meant.
 */
import { closeSync, watch, type FSWatcher } from 'node:fs';
import { basename, dirname } from 'node:path';
import { CulvertError, describe, isCulvert } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import type { Seqpacket, SeqpacketHandlers } from '../sys/native.ts';
import { seqpacketConnect } from '../sys/seqpacket.ts';
import { decodeRequest, encodeAck, encodeHello, MAX_PACKET, type ZdsRequest } from './messages.ts';

const RECONNECT_FIRST_MS = 20;
const RECONNECT_MAX_MS = 15_000;

export interface ZdsHandler {
  connected(): void;
  disconnected(): void;
  /** @param netnsFd owned by the handler. @throws what the nack will say; with code ZDS_PROTOCOL the connection ends too */
  handle(request: ZdsRequest, netnsFd?: number): Promise<void>;
}

export type ConnectSeqpacket = (path: string, maxPacket: number, handlers: SeqpacketHandlers) => Seqpacket;

export class ZdsClient {
  readonly #path: string;
  readonly #handler: ZdsHandler;
  readonly #log: Logger;
  readonly #connect: ConnectSeqpacket;
  #session: Session | undefined;
  #delayMs = RECONNECT_FIRST_MS;
  #timer: NodeJS.Timeout | undefined;
  #watcher: FSWatcher | undefined;
  #closed = false;

  constructor(path: string, handler: ZdsHandler, log: Logger, connect: ConnectSeqpacket = seqpacketConnect) {
    this.#path = path;
    this.#handler = handler;
    this.#log = log;
    this.#connect = connect;
  }

  start(): void {
    this.#watch();
    this.#dial();
  }

  /** No more requests are taken; the agent sees the end of the stream. */
  close(): void {
    this.#closed = true;
    clearTimeout(this.#timer);
    this.#watcher?.close();
    this.#session?.close();
  }

  #dial(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const session = new Session(this.#handler, this.#log, (healthy) => {
      this.#session = undefined;
      if (healthy) this.#delayMs = RECONNECT_FIRST_MS;
      this.#again();
    });
    try {
      session.begin(this.#connect(this.#path, MAX_PACKET, session.handlers));
      this.#session = session;
      this.#log.info({ path: this.#path }, 'connected to the node agent');
    } catch (error) {
      // Said once per absence, not once per try.
      const level = this.#delayMs === RECONNECT_FIRST_MS ? 'warn' : 'debug';
      this.#log[level]({ error: describe(error) }, `failed to connect to the node agent over ${this.#path}, is the node agent healthy?`);
      this.#again();
    }
  }

  #again(): void {
    if (this.#closed || this.#timer !== undefined) return;
    if (this.#watcher === undefined) this.#watch();
    this.#timer = setTimeout(() => {
      this.#dial();
    }, this.#delayMs);
    this.#delayMs = Math.min(this.#delayMs * 2, RECONNECT_MAX_MS);
  }

  /** An agent that is back is met at once, not at the end of a long delay. Without a directory to watch, delays must do. */
  #watch(): void {
    const name = basename(this.#path);
    try {
      this.#watcher = watch(dirname(this.#path), (_event, changed) => {
        if (changed !== name || this.#session !== undefined || this.#closed) return;
        clearTimeout(this.#timer);
        this.#timer = undefined;
        this.#delayMs = RECONNECT_FIRST_MS; // the file is there a moment before somebody listens on it
        this.#again();
      });
      this.#watcher.on('error', () => {
        this.#watcher?.close();
        this.#watcher = undefined;
      });
    } catch {
      this.#watcher = undefined;
    }
  }
}

/** One connection. */
class Session {
  readonly handlers: SeqpacketHandlers;
  readonly #handler: ZdsHandler;
  readonly #log: Logger;
  readonly #onEnd: (healthy: boolean) => void;
  #connection: Seqpacket | undefined;
  #queue: Promise<void> = Promise.resolve();
  /** a request was understood and done: the agent makes sense, and meeting it again may be tried at once */
  #healthy = false;
  #broken = false;
  #ended = false;

  constructor(handler: ZdsHandler, log: Logger, onEnd: (healthy: boolean) => void) {
    this.#handler = handler;
    this.#log = log;
    this.#onEnd = onEnd;
    this.handlers = {
      onPacket: (data, fds, truncated) => {
        // The addon may reuse its buffer; the queue may be behind.
        const packet = Uint8Array.from(data);
        this.#queue = this.#queue.then(() => this.#packet(packet, fds, truncated));
      },
      onClose: (error) => {
        this.#end(error);
      },
    };
  }

  /** @throws when the hello cannot be sent */
  begin(connection: Seqpacket): void {
    this.#connection = connection;
    this.#handler.connected();
    try {
      connection.send(encodeHello());
    } catch (error) {
      this.#ended = true; // the caller tries again
      this.#handler.disconnected();
      connection.close();
      throw error;
    }
  }

  /** Our own end of it: nothing to report, nothing to try again. */
  close(): void {
    if (!this.#ended) this.#handler.disconnected();
    this.#ended = true;
    this.#connection?.close();
  }

  async #packet(packet: Uint8Array, fds: number[], truncated: boolean): Promise<void> {
    if (this.#broken || this.#ended) {
      fds.forEach((fd) => {
        closeSync(fd);
      });
      return;
    }
    try {
      const request = understood(packet, fds, truncated);
      await this.#handler.handle(request, fds[0]);
      this.#healthy = true;
      this.#answer('');
    } catch (error) {
      const text = describe(error);
      this.#log.warn({ error: text }, 'ZDS request refused');
      this.#answer(text);
      if (isCulvert(error, 'ZDS_PROTOCOL')) this.#break();
    }
  }

  #answer(error: string): void {
    try {
      if (!this.#ended) this.#connection?.send(encodeAck(error));
    } catch (cause) {
      this.#log.warn({ error: describe(cause) }, 'ZDS ack not sent');
      this.#break();
    }
  }

  #break(): void {
    this.#broken = true;
    this.#healthy = false;
    this.#connection?.close();
    this.#end(undefined);
  }

  #end(error: Error | undefined): void {
    if (this.#ended || this.#connection === undefined) return;
    this.#ended = true;
    this.#handler.disconnected();
    this.#log.warn(error === undefined ? {} : { error: describe(error) }, 'connection to the node agent ended');
    this.#onEnd(this.#healthy);
  }
}

/** @throws ZDS_PROTOCOL; the fds that came with it are closed then */
function understood(packet: Uint8Array, fds: number[], truncated: boolean): ZdsRequest {
  try {
    if (truncated) throw new CulvertError('ZDS_PROTOCOL', 'receive ZDS request: truncated');
    const request = decodeRequest(packet);
    const wanted = request.kind === 'add' ? 1 : 0;
    if (fds.length !== wanted)
      throw new CulvertError(
        'ZDS_PROTOCOL',
        `receive ZDS ${request.kind}: ${String(fds.length)} file descriptors came with it, expected ${String(wanted)}`,
      );
    return request;
  } catch (error) {
    for (const fd of fds) closeSync(fd);
    throw error;
  }
}
