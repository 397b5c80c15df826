/** The ADS method of a control plane, scripted by a test: it sees every stream and request, and sends what it likes. */
import { create, type MessageInitShape } from '@bufbuild/protobuf';
import type { Metadata, ServerDuplexStream } from '@grpc/grpc-js';
import { Changes } from '../../../src/base/changes.ts';
import {
  DeltaDiscoveryResponseSchema,
  type DeltaDiscoveryRequest,
  type DeltaDiscoveryResponse,
  type Resource,
} from '../../../src/proto/discovery_pb.js';
import { ADDRESS_TYPE, AUTHORIZATION_TYPE, deltaAggregatedResources } from '../../../src/rpc/services.ts';
import type { Method } from './server.ts';

const PATIENCE_MS = 8000;

type Call = ServerDuplexStream<DeltaDiscoveryRequest, DeltaDiscoveryResponse>;

export class AdsStream {
  /** in order of arrival, also those that next() returned */
  readonly requests: DeltaDiscoveryRequest[] = [];
  readonly metadata: Metadata;
  readonly #call: Call;
  readonly #changes = new Changes();
  #taken = 0;
  #sent = 0;
  #over = false;

  constructor(call: Call) {
    this.#call = call;
    this.metadata = call.metadata;
    call.on('data', (request: DeltaDiscoveryRequest) => {
      this.requests.push(request);
      this.#changes.notify();
    });
    const over = (): void => {
      this.#over = true;
      this.#changes.notify();
    };
    call.on('end', over).on('cancelled', over).on('error', over);
  }

  /** The next request that was not taken yet. */
  async next(): Promise<DeltaDiscoveryRequest> {
    const request = await this.#changes.until(() => this.requests[this.#taken], PATIENCE_MS);
    if (request === undefined) throw new Error(`no request ${this.#taken + 1} came`);
    this.#taken++;
    return request;
  }

  /** @returns the nonce, "1", "2", … */
  send(typeUrl: string, resources: Resource[] = [], removedResources: string[] = []): string {
    const nonce = String(++this.#sent);
    this.write({ typeUrl, nonce, resources, removedResources });
    return nonce;
  }

  write(response: MessageInitShape<typeof DeltaDiscoveryResponseSchema>): void {
    this.#call.write(create(DeltaDiscoveryResponseSchema, response));
  }

  /** Sends, and waits for the request that answers it. */
  async answerTo(typeUrl: string, resources: Resource[] = [], removedResources: string[] = []): Promise<DeltaDiscoveryRequest> {
    const nonce = this.send(typeUrl, resources, removedResources);
    const answer = await this.#changes.until(() => this.requests.find(({ responseNonce }) => responseNonce === nonce), PATIENCE_MS);
    if (answer === undefined) throw new Error(`nobody answered response ${nonce}`);
    return answer;
  }

  /** @param code grpc status; undefined: ends without complaint */
  end(code?: number, details = ''): void {
    if (code === undefined) this.#call.end();
    else this.#call.emit('error', { code, details });
  }

  /** The client went away, or ended it. */
  async over(): Promise<void> {
    if ((await this.#changes.until(() => (this.#over ? true : undefined), PATIENCE_MS)) === undefined) throw new Error('stream goes on');
  }
}

export class AdsScript {
  readonly streams: AdsStream[] = [];
  readonly method: Method;
  readonly #changes = new Changes();
  #taken = 0;

  constructor() {
    this.method = {
      definition: deltaAggregatedResources,
      handler: (call: Call) => {
        this.streams.push(new AdsStream(call));
        this.#changes.notify();
      },
    };
  }

  /** The next stream that was not taken yet. */
  async stream(): Promise<AdsStream> {
    const stream = await this.#changes.until(() => this.streams[this.#taken], PATIENCE_MS);
    if (stream === undefined) throw new Error(`no stream ${this.#taken + 1} came`);
    this.#taken++;
    return stream;
  }
}

/** Those that a stream begins with. */
export async function firstRequests(stream: AdsStream): Promise<{ address: DeltaDiscoveryRequest; authorization: DeltaDiscoveryRequest }> {
  const [address, authorization] = [await stream.next(), await stream.next()];
  if (address.typeUrl !== ADDRESS_TYPE || authorization.typeUrl !== AUTHORIZATION_TYPE) throw new Error(`began with ${address.typeUrl}`);
  return { address, authorization };
}
