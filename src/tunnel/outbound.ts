/** The outbound door (15001): what the pod's applications dial, sent through HBONE when the peer is captured, else on as it is. */
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { CulvertError } from '../base/errors.ts';
import { formatAddress, type SocketAddress } from '../state/address.ts';
import type { Workload } from '../state/workload.ts';
import type { ConnectionFacts } from './access-log.ts';
import type { Connection } from './connections.ts';
import { reset } from './copy.ts';
import { baggage, forwarded, traceparent } from './hbone-headers.ts';
import type { Pod } from './pod.ts';
import type { HbonePool } from './pool.ts';
import { isRecursiveOutbound } from './ports.ts';
import { routeOutbound, type Route } from './route.ts';
import { remoteAddress } from './sockets.ts';

/** Never rejects: whatever goes wrong ends this one connection, with a line in the log. */
export async function serveOutbound(pod: Pod, pool: HbonePool, socket: Socket): Promise<void> {
  socket.on('error', () => undefined); // seen as 'close' by whoever carries it
  const src = remoteAddress(socket);
  const dst = pod.sockets.originalDestination(socket);
  if (isRecursiveOutbound(dst)) {
    pod.access.refused({ direction: 'outbound', src, dst }, new CulvertError('SELF_CALL', 'attempted recursive call to ourselves'));
    socket.destroy();
    return;
  }
  let connection: Connection | undefined;
  try {
    const source = await pod.workload();
    await pod.know(dst.ip, source.namespace);
    const route = routeOutbound(pod.state, source, dst, pod.turns);
    const facts = factsOf(route, source, src, dst);
    connection = pod.connections.open(facts, dst);
    const upstream = await establish(pod, pool, route, facts, source, connection, socket);
    if (socket.destroyed) reset(upstream);
    await connection.run(socket, upstream);
  } catch (error) {
    if (connection === undefined) pod.access.refused({ direction: 'outbound', src, dst }, error);
    else connection.end(error);
    reset(socket); // an end of stream could be taken for an empty answer
  }
}

async function establish(
  pod: Pod,
  pool: HbonePool,
  route: Route,
  facts: ConnectionFacts,
  source: Workload,
  connection: Connection,
  socket: Socket,
): Promise<Duplex> {
  switch (route.kind) {
    case 'none':
      throw new CulvertError('NO_ENDPOINT', 'no healthy upstream');
    case 'tcp':
      return pod.sockets.connect({ destination: route.target });
    case 'hbone': {
      const gone = new AbortController();
      const leave = (): void => {
        gone.abort(new CulvertError('SYSTEM', 'application closed before the peer was connected'));
      };
      socket.once('close', leave);
      const key = {
        sourceIdentity: source.identity,
        destinationIdentities: [route.workload.identity, ...(route.service?.subjectAltNames ?? [])],
        destination: route.hop,
        sourceIp: facts.src.ip,
      };
      const headers = { baggage: baggage(source), forwarded: forwarded(facts.src, facts.service), traceparent: traceparent() };
      const signal = AbortSignal.any([gone.signal, connection.signal]);
      const { stream, peer } = await pool.connect(key, formatAddress(route.target), headers, signal);
      socket.off('close', leave);
      facts.srcIdentity = source.identity;
      facts.dstIdentity = peer;
      return stream;
    }
  }
}

function factsOf(route: Route, source: Workload, src: SocketAddress, dialled: SocketAddress): ConnectionFacts {
  const common = { direction: 'outbound' as const, src, srcWorkload: source, service: route.service?.hostname };
  switch (route.kind) {
    case 'none':
      return { ...common, protocol: 'TCP', dst: dialled };
    case 'tcp':
      return { ...common, protocol: 'TCP', dst: route.target, dstWorkload: route.workload };
    case 'hbone':
      return { ...common, protocol: 'HBONE', dst: route.hop, hbone: route.target, dstWorkload: route.workload };
  }
}
