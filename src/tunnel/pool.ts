/** A pod's HBONE connections to its peers, shared by the tunnelled connections of one identity to one peer. */
import type { ClientHttp2Stream, OutgoingHttpHeaders } from 'node:http2';
import { CulvertError, isCulvert } from '../base/errors.ts';
import { formatAddress, type SocketAddress } from '../state/address.ts';

const IDLE_RELEASE_MS = 5 * 60_000;

/** What may share a connection. */
export interface PoolKey {
  sourceIdentity: string;
  /** any of these may answer */
  destinationIdentities: readonly string[];
  destination: SocketAddress;
  sourceIp: string;
}

/** The part of an HBONE connection that the pool deals with. */
export interface PooledConnection {
  readonly peer: string;
  readonly streams: number;
  readonly available: boolean;
  connect(authority: string, headers: OutgoingHttpHeaders, signal: AbortSignal): Promise<ClientHttp2Stream>;
  close(): void;
  destroy(): void;
}

export type OpenConnection = (key: PoolKey, events: { onIdle: () => void; onUnusable: () => void }) => Promise<PooledConnection>;

interface Member {
  connection: PooledConnection;
  /** waiting to be released */
  idle: NodeJS.Timeout | undefined;
}

interface Group {
  members: Set<Member>;
  opening: Promise<PooledConnection> | undefined;
}

export class HbonePool {
  readonly #open: OpenConnection;
  readonly #idleMs: number;
  readonly #groups = new Map<string, Group>();
  #closed = false;

  constructor(open: OpenConnection, idleMs = IDLE_RELEASE_MS) {
    this.#open = open;
    this.#idleMs = idleMs;
  }

  /**
   * A tunnel through a shared connection. One that went away before it carried the request (GOAWAY, an idle connection cut) is
   * replaced once: the peer has not seen the request then.
   * @throws HBONE_REFUSED, PEER_IDENTITY, SYSTEM
   */
  async connect(
    key: PoolKey,
    authority: string,
    headers: OutgoingHttpHeaders,
    signal: AbortSignal,
  ): Promise<{ stream: ClientHttp2Stream; peer: string }> {
    const id = keyText(key);
    let fresh = false;
    let repeated = false;
    for (;;) {
      signal.throwIfAborted();
      if (this.#closed) throw new CulvertError('SYSTEM', `connect to ${formatAddress(key.destination)}: the pod is leaving`);
      const group = this.#group(id);
      const connection = available(group);
      if (connection === undefined) {
        // Whoever comes meanwhile waits for the same one, and opens another when it is full.
        fresh = true;
        await (group.opening ??= this.#add(id, group, key));
        continue;
      }
      try {
        return { stream: await connection.connect(authority, headers, signal), peer: connection.peer };
      } catch (error) {
        if (fresh || repeated || signal.aborted || !isCulvert(error, 'HBONE_REFUSED') || !error.retryable) throw error;
        repeated = true;
      }
    }
  }

  get size(): number {
    let size = 0;
    for (const group of this.#groups.values()) size += group.members.size;
    return size;
  }

  /** Connections close when their streams have ended. */
  close(): void {
    this.#each((connection) => {
      connection.close();
    });
  }

  destroy(): void {
    this.#closed = true;
    this.#each((connection) => {
      connection.destroy();
    });
  }

  #each(end: (connection: PooledConnection) => void): void {
    for (const group of this.#groups.values()) {
      for (const member of group.members) {
        clearTimeout(member.idle);
        end(member.connection);
      }
    }
    this.#groups.clear();
  }

  #group(id: string): Group {
    let group = this.#groups.get(id);
    if (group === undefined) this.#groups.set(id, (group = { members: new Set(), opening: undefined }));
    return group;
  }

  async #add(id: string, group: Group, key: PoolKey): Promise<PooledConnection> {
    let member: Member | undefined;
    const remove = (): void => {
      if (member === undefined) return;
      clearTimeout(member.idle);
      group.members.delete(member);
      if (group.members.size === 0 && group.opening === undefined && this.#groups.get(id) === group) this.#groups.delete(id);
    };
    const rest = (): void => {
      if (member === undefined || !group.members.has(member)) return;
      const resting = member;
      clearTimeout(resting.idle);
      resting.idle = setTimeout(() => {
        remove();
        resting.connection.close();
      }, this.#idleMs);
      resting.idle.unref();
    };
    try {
      const connection = await this.#open(key, { onIdle: rest, onUnusable: remove });
      if (this.#closed || !connection.available) {
        connection.destroy(); // not tried again here: a peer that hangs up at once would keep us busy
        throw new CulvertError('HBONE_REFUSED', `connect to ${formatAddress(key.destination)}: connection lost at once`);
      }
      member = { connection, idle: undefined };
      group.members.add(member);
      rest(); // until somebody opens a stream: who it was opened for may have left
      return connection;
    } finally {
      group.opening = undefined;
      if (group.members.size === 0) this.#groups.delete(id);
    }
  }
}

/** A connection with room, no longer idle. Its stream must be opened before anything is awaited, or others take the room too. */
function available(group: Group): PooledConnection | undefined {
  for (const member of group.members) {
    if (!member.connection.available) continue;
    clearTimeout(member.idle);
    member.idle = undefined;
    return member.connection;
  }
  return undefined;
}

function keyText(key: PoolKey): string {
  return [key.sourceIdentity, [...key.destinationIdentities].sort().join(','), formatAddress(key.destination), key.sourceIp].join(' ');
}
