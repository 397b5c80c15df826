/**
 * One tunnel's ZDS connection, seen from the agent. Acks carry no id, they answer whatever was asked last: so one request is
 * outstanding at a time, and a late or missing ack costs the connection, because after it every ack would answer the wrong request.
 * ztunnel reconnects at once and gets a fresh snapshot. An idle connection needs no keepalive read: its end, and every packet
 * that nobody asked for, is reported by the socket as it happens.
 */
import { closeSync } from 'node:fs';
import type { Peer, Seqpacket, SeqpacketHandlers } from '../../addon/index.d.ts';
import { CulvertError, describe, isSystem } from '../base/errors.ts';
import { decodeHello, decodeResponse, encodeRequest, type ZdsAck, type ZdsRequest } from './messages.ts';

/** What to send is asked for at the moment of sending: by then it may be out of date (undefined: nothing any more). */
export type LateRequest = () => { request: ZdsRequest; netnsFd?: number } | undefined;

interface Expected {
  resolve: (packet: Uint8Array) => void;
  reject: (error: Error) => void;
  timer: NodeJS.Timeout;
}

export interface ConnectionEvents {
  /** once, with the reason in words */
  onClosed: (connection: ZdsConnection, reason: string) => void;
}

export class ZdsConnection {
  readonly id: string;
  readonly since = new Date();
  readonly peer: Peer;
  readonly #socket: Seqpacket;
  readonly #deadlineMs: number;
  readonly #events: ConnectionEvents;
  #expected: Expected | undefined;
  #closed: string | undefined;
  #queue: Promise<unknown> = Promise.resolve();

  constructor(id: string, socket: Seqpacket, deadlineMs: number, events: ConnectionEvents) {
    this.id = id;
    this.peer = socket.peer;
    this.#socket = socket;
    this.#deadlineMs = deadlineMs;
    this.#events = events;
  }

  get closed(): boolean {
    return this.#closed !== undefined;
  }

  handlers(): SeqpacketHandlers {
    return {
      onPacket: (data, fds, truncated) => {
        this.#receive(data, fds, truncated);
      },
      onClose: (error) => {
        this.close(error === undefined ? 'the tunnel closed it' : describe(error));
      },
    };
  }

  /** The first packet. @returns the version offered. @throws ZDS_TIMEOUT, ZDS_PROTOCOL; the connection is closed then */
  async hello(): Promise<number> {
    return this.#decoded(decodeHello, await this.#expect('hello'));
  }

  /** Sends after all that was asked for before, and waits for the ack. @returns undefined when there was nothing left to send */
  request(late: LateRequest): Promise<ZdsAck | undefined> {
    const turn = this.#queue.then(() => this.#exchange(late));
    this.#queue = turn.catch(() => undefined);
    return turn;
  }

  close(reason: string): void {
    if (this.#closed !== undefined) return;
    this.#closed = reason;
    this.#giveUp(this.#gone());
    this.#socket.close();
    this.#events.onClosed(this, reason);
  }

  async #exchange(late: LateRequest): Promise<ZdsAck | undefined> {
    if (this.#closed !== undefined) throw this.#gone();
    const message = late();
    if (message === undefined) return undefined;
    const packet = encodeRequest(message.request);
    const answer = this.#expect(`ack of ${message.request.kind}`);
    try {
      this.#socket.send(packet, message.netnsFd);
    } catch (error) {
      // Nothing was sent: a descriptor that is no open file is that pod's fault, and would be at each snapshot.
      if (isSystem(error, 'EBADF'))
        this.#giveUp(new CulvertError('SYSTEM', `send ZDS ${message.request.kind}`, error, { retryable: false }));
      else this.close(`send ${message.request.kind}: ${describe(error)}`); // rejects `answer` too
    }
    return this.#decoded(decodeResponse, await answer);
  }

  /** What is waited for will not come. */
  #giveUp(error: Error): void {
    const expected = this.#expected;
    this.#expected = undefined;
    clearTimeout(expected?.timer);
    expected?.reject(error);
  }

  #expect(what: string): Promise<Uint8Array> {
    if (this.#closed !== undefined) return Promise.reject(this.#gone());
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        const error = new CulvertError('ZDS_TIMEOUT', `wait for ZDS ${what}: nothing within ${String(this.#deadlineMs)} ms`);
        this.#expected = undefined;
        reject(error);
        this.close(error.message);
      }, this.#deadlineMs);
      this.#expected = { resolve, reject, timer };
    });
  }

  #receive(data: Uint8Array, fds: number[], truncated: boolean): void {
    for (const fd of fds) closeSync(fd);
    if (this.#closed !== undefined) return;
    if (truncated) this.close('protocol: a packet longer than 1024 bytes');
    else if (fds.length > 0) this.close('protocol: a packet with a file descriptor');
    else if (this.#expected === undefined) this.close(`protocol: ${String(data.length)} bytes that nobody asked for`);
    else {
      const { resolve, timer } = this.#expected;
      this.#expected = undefined;
      clearTimeout(timer);
      resolve(data);
    }
  }

  #decoded<T>(decode: (packet: Uint8Array) => T, packet: Uint8Array): T {
    try {
      return decode(packet);
    } catch (error) {
      this.close(`protocol: ${describe(error)}`);
      throw error;
    }
  }

  #gone(): CulvertError {
    return new CulvertError('ZDS_PROTOCOL', `ZDS connection ${this.id} is closed: ${this.#closed ?? ''}`);
  }
}
