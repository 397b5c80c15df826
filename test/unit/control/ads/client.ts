/** A client of delta ADS that says what a test tells it to, over a real connection. */
import { create, type MessageInitShape } from '@bufbuild/protobuf';
import { credentials, Client, Metadata, type ClientDuplexStream, type StatusObject } from '@grpc/grpc-js';
import { readFileSync } from 'node:fs';
import { Changes } from '../../../../src/base/changes.ts';
import {
  DeltaDiscoveryRequestSchema,
  type DeltaDiscoveryRequest,
  type DeltaDiscoveryResponse,
} from '../../../../src/proto/discovery_pb.js';
import { ADDRESS_TYPE, deltaAggregatedResources, serializer } from '../../../../src/rpc/services.ts';
import type { ControlPlaneServer } from '../../../support/control-plane/server.ts';

const WAIT_MS = 8000;

export type Request = Exclude<MessageInitShape<typeof DeltaDiscoveryRequestSchema>, DeltaDiscoveryRequest>;

export class AdsClient {
  readonly responses: DeltaDiscoveryResponse[] = [];
  status: StatusObject | undefined;
  readonly #client: Client;
  readonly #call: ClientDuplexStream<Buffer, DeltaDiscoveryResponse>;
  readonly #changes = new Changes();
  #read = 0;

  constructor(server: ControlPlaneServer, token: string | undefined = 'good') {
    this.#client = new Client(server.address.slice('https://'.length), credentials.createSsl(readFileSync(server.rootFile)), {
      'grpc.max_receive_message_length': -1,
      'grpc.use_local_subchannel_pool': 1,
      'grpc.ssl_target_name_override': 'localhost',
    });
    const metadata = new Metadata();
    if (token !== '') metadata.set('authorization', `Bearer ${token}`);
    const { path, responseDeserialize } = deltaAggregatedResources;
    this.#call = this.#client.makeBidiStreamRequest(path, (bytes: Buffer) => bytes, responseDeserialize, metadata);
    this.#call.on('data', (response: DeltaDiscoveryResponse) => {
      this.responses.push(response);
      this.#changes.notify();
    });
    this.#call.on('error', () => undefined);
    this.#call.on('status', (status) => {
      this.status = status;
      this.#changes.notify();
    });
  }

  bytes(bytes: Buffer): void {
    this.#call.write(bytes);
  }

  /** Of type Address, with a node, unless it says otherwise. */
  send(request: Request = {}): void {
    this.bytes(
      serializer(DeltaDiscoveryRequestSchema)(create(DeltaDiscoveryRequestSchema, { node: NODE, typeUrl: ADDRESS_TYPE, ...request })),
    );
  }

  ack(response: DeltaDiscoveryResponse, error?: string): void {
    this.send({
      typeUrl: response.typeUrl,
      responseNonce: response.nonce,
      ...(error === undefined ? {} : { errorDetail: { code: 3, message: error } }),
    });
  }

  /** The next response, not acknowledged. */
  async next(): Promise<DeltaDiscoveryResponse> {
    const index = this.#read++;
    const response = await this.#changes.until(() => this.responses[index], WAIT_MS);
    if (response === undefined) throw new Error(`no response: ${JSON.stringify(this.status)}`);
    return response;
  }

  /** The next response, acknowledged. */
  async take(): Promise<DeltaDiscoveryResponse> {
    const response = await this.next();
    this.ack(response);
    return response;
  }

  /** Everything that came until nothing more does when `last` is in it: acknowledged, as names. */
  async until(last: (name: string) => boolean): Promise<DeltaDiscoveryResponse[]> {
    const all: DeltaDiscoveryResponse[] = [];
    do all.push(await this.take());
    while (![...namesIn(all.at(-1)!), ...all.at(-1)!.removedResources].some(last));
    return all;
  }

  async ended(): Promise<StatusObject> {
    const status = await this.#changes.until(() => this.status, WAIT_MS);
    if (status === undefined) throw new Error('stream did not end');
    return status;
  }

  /** Reads no more from the connection. */
  pause(): void {
    this.#call.pause();
  }

  resume(): void {
    this.#call.resume();
  }

  halfClose(): void {
    this.#call.end();
  }

  close(): void {
    this.#call.cancel();
    this.#client.close();
  }
}

export const NODE = { id: 'ztunnel~10.1.1.1~zt.istio-system~istio-system.svc.cluster.local', metadata: { NODE_NAME: 'node-a' } };

export function namesIn(response: DeltaDiscoveryResponse): string[] {
  return response.resources.map(({ name }) => name).sort();
}

/** Name → version, as a client keeps them to resume. */
export function versionsIn(responses: readonly DeltaDiscoveryResponse[]): Record<string, string> {
  const versions = new Map<string, string>();
  for (const { resources, removedResources } of responses) {
    for (const { name, version } of resources) versions.set(name, version);
    for (const name of removedResources) versions.delete(name);
  }
  return Object.fromEntries(versions);
}
