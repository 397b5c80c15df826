/** The HBONE door (15008): CONNECT streams of authenticated peers, each connected to the pod's application as its client. */
import { constants, type IncomingHttpHeaders, type ServerHttp2Stream } from 'node:http2';
import { CulvertError } from '../base/errors.ts';
import { formatAddress, parseAuthority, type SocketAddress } from '../state/address.ts';
import type { ConnectionFacts } from './access-log.ts';
import { forwardedHost } from './hbone-headers.ts';
import type { Pod } from './pod.ts';
import { isIllegalPort } from './ports.ts';

/** The mTLS connection that a stream came by. */
export interface HbonePeer {
  identity: string;
  src: SocketAddress;
  /** the address that was connected to: port 15008 */
  dst: SocketAddress;
}

const BAD_REQUEST = 400;
const UNAVAILABLE = 503;

/** Never rejects. */
export async function serveStream(pod: Pod, peer: HbonePeer, stream: ServerHttp2Stream, headers: IncomingHttpHeaders): Promise<void> {
  stream.on('error', () => undefined);
  const refused = refuse(headers, peer.dst);
  if ('status' in refused) {
    pod.access.refused({ direction: 'inbound', src: peer.src, dst: peer.dst, srcIdentity: peer.identity }, refused.error);
    answer(stream, refused.status);
    return;
  }
  const { target } = refused;
  const { state } = pod;
  const workload = state.byId(pod.info, pod.uid);
  const client = state.byIp(peer.src.ip);
  const services = workload === undefined ? [] : state.servicesOf(workload);
  const host = forwardedHost(headers.forwarded);
  const service = services.find(({ hostname }) => hostname === host) ?? (workload && state.serviceFor(workload, target));
  const facts: ConnectionFacts = {
    direction: 'inbound',
    protocol: 'HBONE',
    src: peer.src,
    dst: peer.dst,
    hbone: target,
    srcWorkload: client?.identity === peer.identity ? client : undefined,
    dstWorkload: workload,
    srcIdentity: peer.identity,
    dstIdentity: workload?.identity,
    service: service?.hostname,
  };
  const connection = pod.connections.open(facts, target);
  try {
    const app = await pod.sockets.connect({ destination: target, source: peer.src.ip });
    if (stream.destroyed || connection.signal.aborted) {
      app.resetAndDestroy();
      throw new CulvertError('SYSTEM', 'peer gave up before the application was connected');
    }
    stream.respond({ ':status': 200 });
    await connection.run(app, stream);
  } catch (error) {
    connection.end(error);
    answer(stream, UNAVAILABLE);
  }
}

/** What a request asks for, or why it is not served. */
function refuse(headers: IncomingHttpHeaders, door: SocketAddress): { target: SocketAddress } | { status: number; error: Error } {
  const { ':method': method, ':authority': authority = '' } = headers;
  if (method !== 'CONNECT')
    return { status: BAD_REQUEST, error: new CulvertError('HBONE_REFUSED', `method is ${String(method)}, not CONNECT`) };
  const target = parseAuthority(authority);
  if (target === undefined)
    return {
      status: BAD_REQUEST,
      error: new CulvertError('HBONE_REFUSED', `authority ${JSON.stringify(authority.slice(0, 100))} is no ip:port`),
    };
  if (target.ip !== door.ip)
    return { status: BAD_REQUEST, error: new CulvertError('HBONE_REFUSED', `ip mismatch: ${door.ip} != ${target.ip}`) };
  if (isIllegalPort(target.port))
    return { status: UNAVAILABLE, error: new CulvertError('SELF_CALL', `attempted recursive call to ourselves: ${formatAddress(target)}`) };
  return { target };
}

function answer(stream: ServerHttp2Stream, status: number): void {
  if (stream.destroyed || stream.closed || stream.headersSent) return;
  stream.respond({ ':status': status }, { endStream: true });
  stream.close(constants.NGHTTP2_NO_ERROR); // what it sends besides is of no interest
}
