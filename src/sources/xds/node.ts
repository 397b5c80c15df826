/** Who asks, as control planes expect it of a ztunnel: they choose by it what and how they answer. */
import { create, type JsonObject } from '@bufbuild/protobuf';
import { NodeSchema, type Node } from '../../proto/discovery_pb.js';

export interface NodeIdentity {
  /** of the Kubernetes node */
  name: string;
  /** of the pod that asks */
  ip?: string;
  podName?: string;
  namespace?: string;
  /** further metadata (ISTIO_META_*, ISTIO_METAJSON_*); wins over what is said here */
  metadata?: Record<string, unknown>;
}

/** What ztunnel says when it does not know its address. */
const NO_IP = '1.1.1.1';

export function nodeMessage({ name, ip = NO_IP, podName = '', namespace = '', metadata = {} }: NodeIdentity): Node {
  const own = { NAME: podName, NAMESPACE: namespace, INSTANCE_IPS: ip, NODE_NAME: name };
  return create(NodeSchema, {
    id: `ztunnel~${ip}~${podName}.${namespace}~${namespace}.svc.cluster.local`,
    metadata: JSON.parse(JSON.stringify({ ...own, ...metadata })) as JsonObject, // drops what has no JSON
  });
}
