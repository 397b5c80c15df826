/** What a service port speaks, told from `appProtocol` or the prefix of its name (Istio pkg/config/kube). */
import { AppProtocol } from '../../proto/workload_pb.js';
import type { ServicePort } from '../cluster.ts';

/** Names that Kubernetes itself defines, for `appProtocol` only. */
const KUBERNETES: ReadonlyMap<string, AppProtocol> = new Map([
  ['kubernetes.io/h2c', AppProtocol.HTTP2],
  ['kubernetes.io/ws', AppProtocol.HTTP11],
  ['kubernetes.io/wss', AppProtocol.TLS],
]);
const PREFIXES: ReadonlyMap<string, AppProtocol> = new Map([
  ['http', AppProtocol.HTTP11],
  ['http2', AppProtocol.HTTP2],
  ['grpc', AppProtocol.GRPC],
  ['https', AppProtocol.TLS],
  ['tls', AppProtocol.TLS],
  ['tcp', AppProtocol.TCP],
]);
/** Protocols that Istio knows, but that L4 has no word for. */
const OTHERS = new Set(['udp', 'http_proxy', 'mongo', 'redis', 'mysql']);
/** SMTP, DNS, MySQL and MongoDB: the server speaks first, so nobody may wait to see what the client says. */
const SERVER_FIRST = new Set([25, 53, 3306, 27017]);

export function appProtocolOf({ appProtocol, name, port }: ServicePort): AppProtocol {
  const own = KUBERNETES.get(appProtocol ?? '');
  if (own !== undefined) return own;
  const text = (appProtocol ?? name).toLowerCase();
  if (text.startsWith('grpc-web')) return AppProtocol.UNKNOWN;
  const [prefix = ''] = text.split('-', 1);
  const known = PREFIXES.get(prefix);
  if (known !== undefined) return known;
  return SERVER_FIRST.has(port) && !OTHERS.has(prefix) ? AppProtocol.TCP : AppProtocol.UNKNOWN;
}
