/** Resources for tests: each says only what matters to it. */
import { create, toBinary, type DescMessage, type MessageInitShape, type MessageShape } from '@bufbuild/protobuf';
import { ResourceSchema, type Resource } from '../../../src/proto/discovery_pb.js';
import { AuthorizationSchema } from '../../../src/proto/security_pb.js';
import { AddressSchema, ServiceSchema, TunnelProtocol, WorkloadSchema } from '../../../src/proto/workload_pb.js';
import { ADDRESS_TYPE, AUTHORIZATION_TYPE } from '../../../src/rpc/services.ts';

/** Dotted or hexadecimal groups written out in full. */
export function ipBytes(text: string): Uint8Array {
  if (!text.includes(':')) return Uint8Array.from(text.split('.'), Number);
  const groups = text.split(':').map((group) => parseInt(group, 16));
  return Uint8Array.from(groups.flatMap((group) => [group >> 8, group & 255]));
}

function encoded<D extends DescMessage>(
  schema: D,
  message: MessageShape<D>,
  typeUrl: string,
  name: string,
  more: Partial<Resource>,
): Resource {
  const any = { typeUrl, value: toBinary(schema, message) };
  return create(ResourceSchema, { name, version: 'v1', resource: any, ...more } as MessageInitShape<typeof ResourceSchema>);
}

/** A captured pod of shop. uid "cluster//Pod/shop/<name>" */
export function workloadResource(
  name: string,
  ip: string | undefined,
  workload: MessageInitShape<typeof WorkloadSchema> = {},
  more: Partial<Resource> = {},
): Resource {
  const uid = `cluster//Pod/shop/${name}`;
  const addresses = ip === undefined ? [] : [ipBytes(ip)];
  const value = create(WorkloadSchema, {
    ...{ uid, name, namespace: 'shop', serviceAccount: name, node: 'node1', addresses, tunnelProtocol: TunnelProtocol.HBONE },
    ...workload,
  });
  return encoded(AddressSchema, create(AddressSchema, { type: { case: 'workload', value } }), ADDRESS_TYPE, value.uid, more);
}

/** hostname "<name>.shop.svc.cluster.local", port 80 → 8080 */
export function serviceResource(
  name: string,
  vip: string | undefined,
  service: MessageInitShape<typeof ServiceSchema> = {},
  more: Partial<Resource> = {},
): Resource {
  const hostname = `${name}.shop.svc.cluster.local`;
  const addresses = vip === undefined ? [] : [{ address: ipBytes(vip) }];
  const value = create(ServiceSchema, {
    name,
    namespace: 'shop',
    hostname,
    addresses,
    ports: [{ servicePort: 80, targetPort: 8080 }],
    ...service,
  });
  const address = create(AddressSchema, { type: { case: 'service', value } });
  return encoded(AddressSchema, address, ADDRESS_TYPE, `${value.namespace}/${value.hostname}`, more);
}

export function policyResource(
  name: string,
  authorization: MessageInitShape<typeof AuthorizationSchema> = {},
  more: Partial<Resource> = {},
): Resource {
  const value = create(AuthorizationSchema, { name, namespace: 'shop', ...authorization });
  return encoded(AuthorizationSchema, value, AUTHORIZATION_TYPE, `shop/${name}`, more);
}

/** Bytes as they are. */
export function rawResource(name: string, typeUrl: string, value: Uint8Array): Resource {
  return create(ResourceSchema, { name, version: 'v1', resource: { typeUrl, value } });
}
