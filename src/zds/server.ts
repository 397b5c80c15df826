/**
 * The agent's end of ZDS: which pods the tunnels should serve, and telling them. The socket is bound before anything slow, and
 * served from `open()` on: a tunnel ends every pod that its snapshot does not mention, so an early, incomplete one would cut live
 * traffic. Adds go to the newest tunnel, deletes to all; when the newest drops, the one before it is the newest again, and is given
 * what only the other had.
 */
import type { Peer, Seqpacket, SeqpacketHandlers } from '../../addon/index.d.ts';
import { CulvertError, describe } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import type { WorkloadInfo, ZdsAck } from './messages.ts';
import { ZdsConnection, type LateRequest } from './server-connection.ts';

export interface ZdsWorkload {
  uid: string;
  info: WorkloadInfo;
  /** undefined: not found yet; the tunnel is told to keep what it has. Owned by the caller, open until `del` resolved. */
  netnsFd: number | undefined;
}

export interface ZdsServerOptions {
  /** binds and listens; every connection's handlers come from the callback */
  listen: (onConnection: (socket: Seqpacket) => SeqpacketHandlers) => { close(): void };
  log: Logger;
  /** for hello, sending and each ack; ms, default 5000 */
  deadlineMs?: number;
  /** before anything is sent to it */
  onTunnel?: (peer: Peer) => void;
  /** its snapshot is complete: it takes adds now */
  onReady?: (peer: Peer) => void;
  onGone?: (peer: Peer, left: number) => void;
}

/** New connections served per second: a tunnel that reconnects in a loop must not keep the agent busy with snapshots. */
const ADMITTED_PER_SECOND = 5;

interface Tunnel {
  connection: ZdsConnection;
  /** it said hello; what did not is no tunnel yet */
  greeted: boolean;
  /** resolves when its snapshot is complete, rejects when it is closed before */
  ready: Promise<void>;
  /** uids that its snapshot only kept */
  kept: Set<string>;
  /** uids whose netns it was given on this connection: what it refused of them, it tries again by itself */
  given: Set<string>;
}

export class ZdsServer {
  readonly #options: ZdsServerOptions;
  readonly #deadlineMs: number;
  readonly #workloads = new Map<string, ZdsWorkload>();
  /** in order of connecting; the last that said hello is the newest */
  readonly #tunnels: Tunnel[] = [];
  readonly #admitted: number[] = [];
  readonly #listener: { close(): void };
  #count = 0;
  #open!: () => void;
  readonly #opened: Promise<void>;

  constructor(options: ZdsServerOptions) {
    this.#options = options;
    this.#deadlineMs = options.deadlineMs ?? 5000;
    this.#opened = new Promise((resolve) => {
      this.#open = resolve;
    });
    this.#listener = options.listen((socket) => this.#accept(socket));
  }

  /** The set is complete: tunnels get their snapshots from now on. */
  open(): void {
    this.#open();
  }

  /** Puts a pod into the set without waiting. The newest tunnel, if it was told to keep it, gets it in full once its netns is known. */
  provide(workload: ZdsWorkload): void {
    this.#workloads.set(workload.uid, workload);
    const tunnel = this.#newest();
    if (workload.netnsFd !== undefined && tunnel?.kept.delete(workload.uid) === true) this.#give(tunnel, workload);
  }

  /**
   * The newest tunnel serves this pod when it resolves. @returns that tunnel's process
   * @throws ZDS_NO_TUNNEL, ZDS_NACK with the tunnel's words, ZDS_TIMEOUT. The pod stays in the set until `del`.
   */
  async add(workload: ZdsWorkload): Promise<Peer> {
    this.#workloads.set(workload.uid, workload);
    for (;;) {
      const tunnel = this.#newest();
      if (tunnel === undefined) throw new CulvertError('ZDS_NO_TUNNEL', `add pod ${name(workload)} to the tunnel: none is connected`);
      const ack = await this.#answer(tunnel, this.#addOf(tunnel, workload.uid));
      if (ack === 'dropped') continue; // the one before it is the newest now
      if (tunnel !== this.#newest()) continue; // a newer one has greeted meanwhile; to repeat an add is harmless
      if (ack !== undefined && ack.error !== '')
        throw new CulvertError('ZDS_NACK', `add pod ${name(workload)} to the tunnel: ${ack.error}`);
      if (ack === undefined) throw new CulvertError('ENROL_FAILED', `add pod ${name(workload)} to the tunnel: it was deleted meanwhile`);
      return tunnel.connection.peer;
    }
  }

  /** No tunnel serves this pod when it resolves. A tunnel that drops meanwhile ends it at its next snapshot. @throws ZDS_NACK */
  async del(uid: string): Promise<void> {
    this.#workloads.delete(uid);
    const told = this.#tunnels.filter((tunnel) => tunnel.greeted);
    for (const { given, kept } of told) {
      given.delete(uid);
      kept.delete(uid);
    }
    const acks = await Promise.allSettled(told.map((tunnel) => this.#answer(tunnel, () => ({ request: { kind: 'del', uid } }))));
    const nacks: string[] = [];
    for (const ack of acks) {
      if (ack.status === 'fulfilled' && typeof ack.value === 'object' && ack.value.error !== '') nacks.push(ack.value.error);
      // a rejection is a timeout: that connection is closed, its next snapshot goes without this pod
    }
    if (nacks.length > 0) throw new CulvertError('ZDS_NACK', `delete pod ${uid} from the tunnel: ${nacks.join('; ')}`);
  }

  /** In order of connecting; only those whose hello came. */
  connections(): { id: string; since: Date; peer: Peer }[] {
    return this.#tunnels
      .filter((tunnel) => tunnel.greeted)
      .map(({ connection }) => ({ id: connection.id, since: connection.since, peer: connection.peer }));
  }

  close(): void {
    this.#listener.close();
    for (const { connection } of [...this.#tunnels]) connection.close('the agent stops');
  }

  #accept(socket: Seqpacket): SeqpacketHandlers {
    this.#count++;
    const connection = new ZdsConnection(`${String(socket.peer.pid)}-${String(this.#count)}`, socket, this.#deadlineMs, {
      onClosed: (closed, reason) => {
        this.#drop(closed, reason);
      },
    });
    const tunnel: Tunnel = { connection, greeted: false, ready: Promise.resolve(), kept: new Set(), given: new Set() };
    this.#tunnels.push(tunnel);
    tunnel.ready = this.#serve(tunnel);
    tunnel.ready.catch((error: unknown) => {
      connection.close(describe(error));
    });
    return connection.handlers();
  }

  async #serve(tunnel: Tunnel): Promise<void> {
    const { connection } = tunnel;
    const log = this.#options.log.child({ connection: connection.id });
    const version = await connection.hello();
    tunnel.greeted = true;
    log.info({ version }, 'tunnel connected');
    await this.#opened;
    await this.#admit(connection);
    this.#options.onTunnel?.(connection.peer);
    // a Map's iteration reaches what is added during it, and what is deleted no longer
    for (const workload of this.#workloads.values()) {
      const { uid } = workload;
      const told = connection.request(() => {
        if (this.#workloads.get(uid)?.netnsFd !== undefined) return this.#addOf(tunnel, uid)();
        if (!this.#workloads.has(uid)) return undefined;
        tunnel.kept.add(uid);
        return { request: { kind: 'keep', uid } };
      });
      await this.#heard(tunnel, workload, told); // what it refuses it tries again by itself: the snapshot goes on
      if (connection.closed) await told;
    }
    const sent = await connection.request(() => ({ request: { kind: 'snapshotSent' } }));
    if (sent !== undefined && sent.error !== '') log.warn({ error: sent.error }, 'tunnel refused the snapshot');
    log.info({ workloads: this.#workloads.size }, 'tunnel has its snapshot');
    // not in this turn: `ready` must have resolved when somebody acts on it
    setImmediate(() => {
      if (!connection.closed) this.#options.onReady?.(connection.peer);
    });
  }

  /** @returns 'dropped' when the connection ended otherwise than by our own deadline */
  async #answer(tunnel: Tunnel, late: LateRequest): Promise<ZdsAck | undefined | 'dropped'> {
    try {
      await tunnel.ready;
    } catch {
      return 'dropped'; // nothing was asked of it yet
    }
    try {
      return await tunnel.connection.request(late);
    } catch (error) {
      if (error instanceof CulvertError && (error.code === 'ZDS_TIMEOUT' || !error.retryable)) throw error;
      if (!tunnel.connection.closed) throw error;
      return 'dropped';
    }
  }

  /** A tunnel that is the newest again must serve what only the other was told of. */
  #catchUp(): void {
    const tunnel = this.#newest();
    if (tunnel === undefined) return;
    for (const workload of this.#workloads.values()) {
      if (workload.netnsFd !== undefined && !tunnel.given.has(workload.uid)) this.#give(tunnel, workload);
    }
  }

  /** An Add that nobody waits for. After the snapshot, where it may have had it. */
  #give(tunnel: Tunnel, workload: ZdsWorkload): void {
    const add = this.#addOf(tunnel, workload.uid);
    const told = tunnel.ready.then(() => tunnel.connection.request(() => (tunnel.given.has(workload.uid) ? undefined : add())));
    void this.#heard(tunnel, workload, told);
  }

  /** Logs what did not work of one pod; whether the connection goes on is the connection's to say. Never throws. */
  async #heard(tunnel: Tunnel, workload: ZdsWorkload, told: Promise<ZdsAck | undefined>): Promise<void> {
    const fields = { connection: tunnel.connection.id, pod: name(workload) };
    try {
      const ack = await told;
      if (ack !== undefined && ack.error !== '') this.#options.log.warn({ ...fields, error: ack.error }, 'tunnel refused a pod');
    } catch (error) {
      this.#options.log.warn({ ...fields, error: describe(error) }, 'tunnel not told of a pod');
    }
  }

  #addOf(tunnel: Tunnel, uid: string): LateRequest {
    return () => {
      // as it is when its turn comes: the fd of a pod that was deleted meanwhile may be another file's by now
      const now = this.#workloads.get(uid);
      if (now?.netnsFd === undefined) return undefined;
      tunnel.given.add(uid);
      return { request: { kind: 'add', uid, workload: now.info }, netnsFd: now.netnsFd };
    };
  }

  #newest(): Tunnel | undefined {
    return this.#tunnels.findLast((tunnel) => tunnel.greeted && !tunnel.connection.closed);
  }

  async #admit(connection: ZdsConnection): Promise<void> {
    for (;;) {
      // one that left while it waited takes nobody's place
      if (connection.closed) throw new CulvertError('ZDS_PROTOCOL', `serve ZDS connection ${connection.id}: it is closed`);
      const now = performance.now();
      const oldest = this.#admitted[0];
      if (this.#admitted.length < ADMITTED_PER_SECOND || oldest === undefined || now - oldest >= 1000) {
        this.#admitted.push(now);
        if (this.#admitted.length > ADMITTED_PER_SECOND) this.#admitted.shift();
        return;
      }
      await new Promise((resolve) => setTimeout(resolve, 1000 - (now - oldest)));
    }
  }

  #drop(connection: ZdsConnection, reason: string): void {
    const at = this.#tunnels.findIndex((tunnel) => tunnel.connection === connection);
    const before = this.#tunnels.findLast((tunnel) => tunnel.greeted);
    const [tunnel] = at < 0 ? [] : this.#tunnels.splice(at, 1);
    this.#options.log.info({ connection: connection.id, reason }, 'tunnel connection closed');
    if (tunnel?.greeted !== true) return;
    // not in this turn: an add that waited for the other comes first
    if (tunnel === before) setImmediate(() => this.#catchUp());
    this.#options.onGone?.(connection.peer, this.connections().length);
  }
}

function name(workload: ZdsWorkload): string {
  return `${workload.info.namespace}/${workload.info.name}`;
}
