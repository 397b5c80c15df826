/** The tunnel's presence in one pod: its three listeners, its pool and its connections, from ZDS add to ZDS delete. */
import type { Server } from 'node:net';
import { CulvertError, isSystem } from '../base/errors.ts';
import type { Workload } from '../state/workload.ts';
import type { WorkloadInfo } from '../zds/messages.ts';
import { ConnectionTable } from './connections.ts';
import { HboneConnection } from './hbone-connection.ts';
import { HboneDoor } from './hbone-door.ts';
import { servePlain } from './inbound-plain.ts';
import { serveOutbound } from './outbound.ts';
import type { Pod, TunnelEnv } from './pod.ts';
import { HbonePool, type OpenConnection } from './pool.ts';
import { HBONE_PORT, OUTBOUND_PORT, PLAINTEXT_PORT } from './ports.ts';
import type { PodSockets } from './sockets.ts';

/** How long a connection waits for the source to know its pod. */
const WORKLOAD_TIMEOUT_MS = 5_000;
/** For connections that are told to end, before they are cut. */
const END_GRACE_MS = 1_000;
const DRAINED = 'connection closed due to connection drain';

export class PodProxy {
  readonly uid: string;
  readonly info: WorkloadInfo;
  readonly connections: ConnectionTable;
  readonly #pod: Pod;
  readonly #pool: HbonePool;
  readonly #door: HboneDoor;
  readonly #listeners: Server[] = [];
  readonly #stopping = new AbortController();
  #certificate: { release(): void } | undefined;

  private constructor(env: TunnelEnv, uid: string, info: WorkloadInfo, sockets: PodSockets) {
    this.uid = uid;
    this.info = info;
    this.connections = new ConnectionTable(env.access);
    const { signal } = this.#stopping;
    this.#pod = { ...env, uid, info, sockets: until(signal, sockets), connections: this.connections, workload: () => this.#workload() };
    this.#pool = new HbonePool(openHbone(this.#pod));
    this.#door = new HboneDoor(this.#pod);
    void this.#prefetch();
  }

  /** Resolves as soon as the listeners are bound. @throws SYSTEM, with nothing left behind */
  static async start(env: TunnelEnv, uid: string, info: WorkloadInfo, sockets: PodSockets): Promise<PodProxy> {
    const proxy = new PodProxy(env, uid, info, sockets);
    const pod = proxy.#pod;
    try {
      proxy.#listeners.push(await sockets.listen(HBONE_PORT, (socket) => void proxy.#door.serve(socket), { paused: true }));
      proxy.#listeners.push(await sockets.listen(PLAINTEXT_PORT, (socket) => void servePlain(pod, socket), { paused: false }));
      proxy.#listeners.push(
        await sockets.listen(OUTBOUND_PORT, (socket) => void serveOutbound(pod, proxy.#pool, socket), { paused: false }),
      );
      return proxy;
    } catch (error) {
      await proxy.stop();
      throw error;
    }
  }

  /** The pod is leaving: no new connections, the open ones ended now. */
  async stop(): Promise<void> {
    this.#closeListeners();
    this.#stopping.abort();
    this.connections.closeAll(DRAINED);
    await this.connections.idle(END_GRACE_MS);
    this.#door.destroy();
    this.#pool.destroy();
    this.#certificate?.release();
    this.#certificate = undefined;
  }

  /** The tunnel is leaving: no new connections, the open ones have until the deadline. */
  async drain(deadlineMs: number): Promise<void> {
    this.#closeListeners();
    this.#door.drain();
    await this.connections.idle(deadlineMs);
    await this.stop();
  }

  #closeListeners(): void {
    for (const listener of this.#listeners.splice(0)) listener.close();
  }

  async #workload(): Promise<Workload> {
    const { state } = this.#pod;
    const workload = await state.waitFor(this.info, this.uid, WORKLOAD_TIMEOUT_MS, this.#stopping.signal);
    if (workload !== undefined) return workload;
    const { namespace, name, serviceAccount } = this.info;
    throw new CulvertError(
      'POD_UNKNOWN',
      `failed to fetch information about local workload ${namespace}/${name} (${serviceAccount}): not known to the source`,
    );
  }

  /** So that the first connection does not wait for a signature. */
  async #prefetch(): Promise<void> {
    const workload = await this.#pod.state.waitFor(this.info, this.uid, undefined, this.#stopping.signal);
    if (workload === undefined || this.#stopping.signal.aborted) return;
    this.#certificate = this.#pod.certificates.retain(workload.identity);
  }
}

/**
 * Connections may still wait for a certificate or an answer of the feed when their pod leaves. They must not go on: the descriptor
 * of its netns is closed by then, and its number may be that of another pod's.
 */
function until(left: AbortSignal, sockets: PodSockets): PodSockets {
  return {
    listen: (...all) => sockets.listen(...all),
    connect: (options) => (left.aborted ? Promise.reject(new CulvertError('SYSTEM', DRAINED)) : sockets.connect(options)),
    originalDestination: (socket) => sockets.originalDestination(socket),
  };
}

function openHbone(pod: Pod): OpenConnection {
  return async (key, events) => {
    const certificate = await pod.certificates.get(key.sourceIdentity);
    try {
      const socket = await pod.sockets.connect({ destination: key.destination });
      return await HboneConnection.open(socket, certificate, key.destinationIdentities, events);
    } catch (error) {
      if (!isSystem(error, 'ETIMEDOUT')) throw error;
      throw new CulvertError('SYSTEM', 'connection timed out, maybe a NetworkPolicy is blocking HBONE port 15008', error);
    }
  };
}
