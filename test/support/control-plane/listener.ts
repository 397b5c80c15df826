/** The least that is a tunnel's stream: everything subscribed, everything acknowledged, nothing kept. Hundreds fit into a process. */
import { Client, credentials, Metadata, type ClientDuplexStream } from '@grpc/grpc-js';
import { create } from '@bufbuild/protobuf';
import { DeltaDiscoveryRequestSchema, type DeltaDiscoveryRequest, type DeltaDiscoveryResponse } from '../../../src/proto/discovery_pb.js';
import { ADDRESS_TYPE, AUTHORIZATION_TYPE, deltaAggregatedResources } from '../../../src/rpc/services.ts';

export interface Listener {
  /** resources of the first response */
  readonly first: Promise<number>;
  close(): void;
}

export interface ListenerOptions {
  port: number;
  /** PEM */
  roots: string;
  token: string;
  node: string;
  /** Of each change after the first response. */
  onChange: (name: string) => void;
}

export function listen({ port, roots, token, node, onChange }: ListenerOptions): Listener {
  // A connection of its own, as a tunnel has.
  const options = { 'grpc.use_local_subchannel_pool': 1, 'grpc.max_receive_message_length': -1 };
  const client = new Client(`localhost:${port}`, credentials.createSsl(Buffer.from(roots)), options);
  const metadata = new Metadata();
  metadata.set('authorization', `Bearer ${token}`);
  const { path, requestSerialize, responseDeserialize } = deltaAggregatedResources;
  const stream: ClientDuplexStream<DeltaDiscoveryRequest, DeltaDiscoveryResponse> = client.makeBidiStreamRequest(
    ...[path, requestSerialize, responseDeserialize, metadata],
  );
  const first = Promise.withResolvers<number>();
  let synced = false;
  stream.on('data', ({ typeUrl, nonce, resources, removedResources }: DeltaDiscoveryResponse) => {
    stream.write(create(DeltaDiscoveryRequestSchema, { typeUrl, responseNonce: nonce }));
    if (typeUrl !== ADDRESS_TYPE) return;
    if (synced) for (const name of [...resources.map((each) => each.name), ...removedResources]) onChange(name);
    synced = true;
    first.resolve(resources.length);
  });
  stream.on('error', (error) => first.reject(error));
  const introduction = { id: `ztunnel~10.0.0.1~${node}.culvert-system~culvert-system.svc.cluster.local`, metadata: { NODE_NAME: node } };
  for (const typeUrl of [ADDRESS_TYPE, AUTHORIZATION_TYPE])
    stream.write(create(DeltaDiscoveryRequestSchema, { typeUrl, node: introduction }));
  return {
    first: first.promise,
    close() {
      stream.cancel();
      client.close();
    },
  };
}
