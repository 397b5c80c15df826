/**
 * Hidden role `bench-tunnel`: a tunnel that is none. It speaks ZDS, listens in each pod's netns as a ztunnel does (mark 0x539,
 * transparent, shared ports) and echoes by itself, so what is left to measure is the redirect. No Node in the data path.
 *
 * It also listens in its own netns: a node-level redirect brings connections there.
 */
import { closeSync } from 'node:fs';
import { join } from 'node:path';
import { createLogger } from '../base/log.ts';
import { TUNNEL_PORTS, wire } from '../maps/layout.ts';
import { native, type EchoServer, type SocketOptions } from '../sys/native.ts';
import { ZdsClient } from '../zds/client.ts';
import type { ZdsRequest } from '../zds/messages.ts';
import { tellCounts, type Counts, type CountsByName } from './counts.ts';
import { ECHO_BACKLOG, ECHO_THREADS } from './serve.ts';

/** name of the stand-in's own netns among the counts, which are otherwise by pod uid */
export const OWN_NETNS = 'node';

/** By uid: the listeners in that pod's netns. */
type Served = Map<string, number[]>;

/** One node's, in the directory where all of them are. */
export function standInCounts(directory: string, node: string): string {
  return join(directory, `tunnel-${node}.sock`);
}

export async function runStandIn(zdsSocket: string, directory: string, node: string): Promise<void> {
  const server = native.echoServer(ECHO_THREADS);
  const served: Served = new Map([[OWN_NETNS, listenIn(server, -1)]]);
  await tellCounts(standInCounts(directory, node), () => countsOf(server, served));
  const client = new ZdsClient(
    zdsSocket,
    {
      connected: () => undefined,
      disconnected: () => undefined,
      handle: (request, netnsFd) => {
        obey(server, served, request, netnsFd);
        return Promise.resolve();
      },
    },
    createLogger('stand-in', 'info'),
  );
  client.start();
}

/** An add of what is served already changes nothing, as with a ztunnel. */
function obey(server: EchoServer, served: Served, request: ZdsRequest, netnsFd: number | undefined): void {
  try {
    if (request.kind === 'add' && netnsFd !== undefined && !served.has(request.uid)) served.set(request.uid, listenIn(server, netnsFd));
    if (request.kind !== 'del') return;
    for (const listener of served.get(request.uid) ?? []) server.unlisten(listener);
    served.delete(request.uid);
  } finally {
    if (netnsFd !== undefined) closeSync(netnsFd);
  }
}

function listenIn(server: EchoServer, netnsFd: number): number[] {
  return tunnelDoors().map((door) => server.listen(netnsFd, door));
}

/** DNS's among them: nobody asks there, but who serves it decides what rules a pod has, and these are to be a ztunnel's. */
export function tunnelDoors(): SocketOptions[] {
  return TUNNEL_PORTS.map((port) => ({
    ...{
      family: 6,
      type: 'tcp',
      v6only: false,
      mark: wire.MARK_TUNNEL,
      reuseAddr: true,
      reusePort: true,
      transparent: true,
      noDelay: true,
    },
    ...{ bind: { address: '::', port }, listen: { backlog: ECHO_BACKLOG } },
  }));
}

function countsOf(server: EchoServer, served: Served): CountsByName {
  const sum = (a: Counts, b: Counts): Counts => ({ accepted: a.accepted + b.accepted, bytes: a.bytes + b.bytes });
  return Object.fromEntries(
    [...served].map(([uid, listeners]) => [uid, listeners.map((each) => server.counts(each)).reduce(sum, { accepted: 0, bytes: 0 })]),
  );
}
