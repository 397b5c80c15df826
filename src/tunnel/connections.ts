/** The live connections of one pod: what the admin door shows, the access log records and a drain ends. */
import type { Duplex } from 'node:stream';
import { CulvertError } from '../base/errors.ts';
import type { SocketAddress } from '../state/address.ts';
import type { AccessLog, ConnectionFacts } from './access-log.ts';
import { copyBoth, type Copy, type Counters } from './copy.ts';

export class Connection implements Counters {
  sent = 0;
  received = 0;
  readonly facts: ConnectionFacts;
  /** where the application meant to go */
  readonly originalDst: SocketAddress;
  readonly #started = performance.now();
  readonly #end: (connection: Connection, durationMs: number, error: unknown) => void;
  readonly #giveUp = new AbortController();
  #copy: Copy | undefined;
  #ended = false;

  constructor(
    facts: ConnectionFacts,
    originalDst: SocketAddress,
    end: (connection: Connection, durationMs: number, error: unknown) => void,
  ) {
    this.facts = facts;
    this.originalDst = originalDst;
    this.#end = end;
  }

  /** Aborted when the connection is to end before it is established. */
  get signal(): AbortSignal {
    return this.#giveUp.signal;
  }

  /** Carries bytes until both sides are closed, then ends the connection. */
  async run(local: Duplex, remote: Duplex): Promise<void> {
    this.#copy = copyBoth(local, remote, this);
    this.end(await this.#copy.done);
  }

  /** Once; later calls change nothing. */
  end(error?: unknown): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#end(this, performance.now() - this.#started, error);
  }

  close(reason: Error): void {
    if (this.#copy === undefined) this.#giveUp.abort(reason);
    else this.#copy.close(reason);
  }
}

export class ConnectionTable {
  readonly #access: AccessLog;
  readonly #live = new Set<Connection>();
  readonly #idle = new Set<() => void>();

  constructor(access: AccessLog) {
    this.#access = access;
  }

  open(facts: ConnectionFacts, originalDst: SocketAddress): Connection {
    const connection = new Connection(facts, originalDst, (ended, durationMs, error) => {
      this.#access.complete(facts, ended, durationMs, error);
      this.#live.delete(ended);
      if (this.#live.size === 0) for (const resolve of this.#idle) resolve();
    });
    this.#live.add(connection);
    this.#access.opened(facts);
    return connection;
  }

  list(): Connection[] {
    return [...this.#live];
  }

  /** Ends every connection, cleanly where the peers allow it. */
  closeAll(why: string): void {
    const reason = new CulvertError('SYSTEM', why);
    for (const connection of [...this.#live]) connection.close(reason);
  }

  /** True when no connection is left within `timeoutMs`. */
  idle(timeoutMs: number): Promise<boolean> {
    if (this.#live.size === 0) return Promise.resolve(true);
    return new Promise((resolve) => {
      const settle = (idle: boolean): void => {
        clearTimeout(timer);
        this.#idle.delete(onIdle);
        resolve(idle);
      };
      const onIdle = (): void => {
        settle(true);
      };
      const timer = setTimeout(() => {
        settle(false);
      }, timeoutMs);
      this.#idle.add(onIdle);
    });
  }
}
