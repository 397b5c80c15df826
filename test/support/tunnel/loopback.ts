/**
 * Pods on loopback addresses of one process: everything of the tunnel is real but the netns and the redirect. Each pod has an
 * address of 127.0.0.0/8 of its own, and what the application "dialled" is set by the test.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import type { Logger } from '../../../src/base/log.ts';
import type { SocketAddress } from '../../../src/state/address.ts';
import { StateStore } from '../../../src/state/store.ts';
import type { Service, Workload } from '../../../src/state/workload.ts';
import { AccessLog } from '../../../src/tunnel/access-log.ts';
import { Certificates } from '../../../src/tunnel/certificates.ts';
import { demanding } from '../../../src/tunnel/demand.ts';
import type { CertificateIssuer } from '../../../src/tunnel/issuer.ts';
import { createLocalCa, LocalCaIssuer } from '../../../src/tunnel/local-ca.ts';
import type { TunnelEnv } from '../../../src/tunnel/pod.ts';
import { PodProxy } from '../../../src/tunnel/pod-proxy.ts';
import { OUTBOUND_PORT } from '../../../src/tunnel/ports.ts';
import { RoundRobin } from '../../../src/tunnel/route.ts';
import type { ConnectOptions, PodSockets } from '../../../src/tunnel/sockets.ts';
import { localAddress } from '../../../src/tunnel/sockets.ts';

export type LogLine = Record<string, unknown>;

export function collectingLogger(): { log: Logger; lines: LogLine[] } {
  const lines: LogLine[] = [];
  const log = pino({ level: 'debug' }, { write: (text: string) => void lines.push(JSON.parse(text) as LogLine) });
  return { log, lines };
}

export class LoopbackSockets implements PodSockets {
  readonly ip: string;
  /** what the next connections to 15001 meant; undefined: what they really dialled */
  dialled: SocketAddress | undefined;
  readonly connects: ConnectOptions[] = [];

  constructor(ip: string) {
    this.ip = ip;
  }

  listen(port: number, onConnection: (socket: Socket) => void, options: { paused: boolean }): Promise<Server> {
    const server = createServer({ allowHalfOpen: true, pauseOnConnect: options.paused, noDelay: true }, onConnection);
    return new Promise((resolve, reject) => {
      server.once('error', reject);
      server.listen({ port, host: this.ip, backlog: 511 }, () => resolve(server));
    });
  }

  connect(options: ConnectOptions): Promise<Socket> {
    this.connects.push(options);
    const { destination, source } = options;
    return new Promise((resolve, reject) => {
      const socket = connect({
        host: destination.ip,
        port: destination.port,
        localAddress: source ?? this.ip,
        allowHalfOpen: true,
        noDelay: true,
      });
      socket.once('error', reject);
      socket.once('connect', () => {
        socket.off('error', reject);
        resolve(socket);
      });
    });
  }

  originalDestination(socket: Socket): SocketAddress {
    const local = localAddress(socket);
    return local.port === OUTBOUND_PORT && this.dialled !== undefined ? this.dialled : local;
  }
}

interface LoopbackOptions {
  certificateLifetimeMs?: number;
  /** what stands before the mesh's CA */
  issuer?: (ca: CertificateIssuer) => CertificateIssuer;
  /** of an on-demand feed */
  demand?: (ip: string) => Promise<void>;
}

/** A mesh whose pods are all served by this process. */
export class LoopbackMesh {
  readonly store = new StateStore();
  readonly access = collectingLogger();
  readonly other = collectingLogger();
  readonly caDir = mkdtempSync(join(tmpdir(), 'cvt-tun-ca-'));
  readonly pods = new Map<string, { proxy: PodProxy; sockets: LoopbackSockets; workload: Workload }>();
  readonly env: TunnelEnv;

  private constructor(options: LoopbackOptions) {
    const issuer = options.issuer?.(new LocalCaIssuer(this.caDir)) ?? new LocalCaIssuer(this.caDir);
    this.env = {
      state: this.store,
      certificates: new Certificates(issuer, this.other.log, options.certificateLifetimeMs),
      access: new AccessLog(this.access.log),
      log: this.other.log,
      turns: new RoundRobin(),
      know: demanding(options, this.store),
    };
  }

  static async create(workloads: Workload[], services: Service[] = [], options: LoopbackOptions = {}): Promise<LoopbackMesh> {
    const mesh = new LoopbackMesh(options);
    await createLocalCa(mesh.caDir);
    mesh.store.replace({ workloads, services, policies: [] });
    for (const one of workloads) await mesh.serve(one);
    return mesh;
  }

  async serve(one: Workload): Promise<void> {
    const sockets = new LoopbackSockets(one.ips[0]!);
    const proxy = await PodProxy.start(
      this.env,
      one.uid,
      { name: one.name, namespace: one.namespace, serviceAccount: one.serviceAccount },
      sockets,
    );
    this.pods.set(one.name, { proxy, sockets, workload: one });
  }

  /** An application of a pod dials; its connection is taken by the pod's outbound door. */
  dial(name: string, destination: SocketAddress): Promise<Socket> {
    const pod = this.pods.get(name)!;
    pod.sockets.dialled = destination;
    return new Promise((resolve, reject) => {
      const socket = connect({
        host: pod.sockets.ip,
        port: OUTBOUND_PORT,
        localAddress: pod.sockets.ip,
        allowHalfOpen: true,
        noDelay: true,
      });
      socket.once('error', reject);
      socket.once('connect', () => {
        socket.off('error', reject);
        socket.on('error', () => undefined);
        resolve(socket);
      });
    });
  }

  async close(): Promise<void> {
    await Promise.all([...this.pods.values()].map(({ proxy }) => proxy.stop()));
    this.env.certificates.close();
    rmSync(this.caDir, { recursive: true });
  }
}

export function listenApp(ip: string, port: number, onConnection: (socket: Socket) => void): Promise<Server> {
  return new Promise((resolve, reject) => {
    const server = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => {
      socket.on('error', () => undefined);
      onConnection(socket);
    });
    server.once('error', reject);
    server.listen({ port, host: ip, backlog: 4096 }, () => resolve(server));
  });
}

/** Everything until the end of the stream. */
export function readAll(socket: Socket): Promise<string> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    socket.on('data', (chunk: Buffer) => chunks.push(chunk));
    socket.once('end', () => resolve(Buffer.concat(chunks).toString()));
    socket.once('error', reject);
    socket.once('close', (hadError) => hadError || resolve(Buffer.concat(chunks).toString()));
  });
}

export async function eventually<T>(probe: () => T | undefined | false, timeoutMs = 3000): Promise<T> {
  const deadline = Date.now() + timeoutMs;
  for (;;) {
    const value = probe();
    if (value !== undefined && value !== false) return value;
    if (Date.now() > deadline) throw new Error('it did not happen in time');
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}
