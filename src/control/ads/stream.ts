/** One client's delta stream: its subscriptions, one unacknowledged response per type, and nothing written that it has not asked for. */
import { status, type ServerDuplexStream } from '@grpc/grpc-js';
import { fromBinary } from '@bufbuild/protobuf';
import { CulvertError, describe } from '../../base/errors.ts';
import type { Logger } from '../../base/log.ts';
import type { Slots } from '../../base/slots.ts';
import { DeltaDiscoveryRequestSchema, type DeltaDiscoveryRequest, type Node } from '../../proto/discovery_pb.js';
import type { Caller } from '../authenticator.ts';
import type { ResourceStore } from '../resource-store.ts';
import { TYPE_URLS, type ResourceKind } from '../resources.ts';
import { accountOf } from './authorize.ts';
import type { Batch } from './batch.ts';
import type { AdsCounters } from './counters.ts';
import type { Responses } from './responses.ts';
import { Subscription } from './subscription.ts';

export type AdsCall = ServerDuplexStream<Buffer, Buffer>;

/** What the streams of a server share. */
export interface AdsShared {
  store: ResourceStore;
  responses: Responses;
  counters: AdsCounters;
  /** Large responses that are written at once: each is copied for its client, and a whole mesh has megabytes. */
  large: Slots;
  /** Pushes what is pending: whoever reads the store now must not miss that something in it goes before it was pushed. */
  settle: () => void;
}

/** One type of resource as a client has it; for people. */
export interface AdsSubscriptionStatus {
  wildcard: boolean;
  /** nonce of the last response that it took; empty: none yet */
  acked: string;
  /** a response is on its way or not acknowledged yet */
  inFlight: boolean;
  /** resources that it has yet to hear of, beyond those in flight */
  waiting: number;
  nacks: number;
  /** what it said about the last response that it refused, unless it has taken one since */
  refused?: string;
}

export interface AdsSession {
  /** as the client calls itself */
  id: string;
  /** name of its node; empty when it does not say */
  node: string;
  /** "namespace/name" */
  account: string;
  peer: string;
  since: Date;
  types: Partial<Record<ResourceKind, AdsSubscriptionStatus>>;
}

interface Flow extends Omit<AdsSubscriptionStatus, 'wildcard' | 'inFlight' | 'waiting'> {
  subscription: Subscription;
  /** nonce of the response that is not acknowledged yet */
  unacked: string | undefined;
  /** handed over, but not taken by the connection yet: the client may know a nonce without having read */
  writing: boolean;
  /** waits for its turn among the large responses */
  queued: boolean;
}

/** As many names as a large mesh has resources; more is a client gone wrong. */
const MAX_NAMES = 200_000;
/** Types that we have nothing of, each answered once. */
const MAX_UNKNOWN_TYPES = 16;
/** Responses of more resources than this wait for their turn. */
const LARGE_RESOURCES = 500;
/** A client that takes longer than this over a large response does not keep the others waiting. */
const LARGE_TURN_MS = 5000;
const MAX_TEXT = 1000;

const KINDS = new Map(Object.entries(TYPE_URLS).map(([kind, url]) => [url, kind as ResourceKind]));

export class AdsStream {
  readonly #call: AdsCall;
  readonly #shared: AdsShared;
  readonly #caller: Caller;
  readonly #since = new Date();
  readonly #flows = new Map<ResourceKind, Flow>();
  readonly #unknown = new Set<string>();
  #log: Logger;
  #id = '';
  #node = '';
  #closed = false;

  constructor(call: AdsCall, caller: Caller, shared: AdsShared, log: Logger) {
    this.#call = call;
    this.#caller = caller;
    this.#shared = shared;
    this.#log = log.child({ account: accountOf(caller), peer: call.getPeer() });
    call.on('data', (bytes: Buffer) => this.#receive(bytes));
    call.on('end', () => this.end());
    for (const event of ['cancelled', 'close', 'error']) call.on(event, () => this.#over());
  }

  get session(): AdsSession {
    const types: AdsSession['types'] = {};
    for (const [kind, { subscription, unacked, acked, nacks, refused }] of this.#flows) {
      const { wildcard, waiting } = subscription;
      types[kind] = { wildcard, acked, inFlight: unacked !== undefined, waiting, nacks, ...(refused === undefined ? {} : { refused }) };
    }
    const peer = this.#call.getPeer();
    return { id: this.#id, node: this.#node, account: accountOf(this.#caller), peer, since: this.#since, types };
  }

  push(kind: ResourceKind, batch: Batch): void {
    const flow = this.#flows.get(kind);
    if (flow === undefined || this.#closed) return;
    flow.subscription.changed(batch);
    this.#flush(flow);
  }

  /** @param refusal undefined: a normal end, after which a client opens the next stream at once and goes on where it was */
  end(refusal?: { code: status; details: string }): void {
    if (this.#closed) return;
    this.#over();
    if (refusal === undefined) this.#call.end();
    else this.#call.emit('error', Object.assign(new Error(refusal.details), refusal));
  }

  #over(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#flows.clear();
    if (this.#id !== '') this.#log.info('xDS stream closed');
  }

  #receive(bytes: Buffer): void {
    if (this.#closed) return;
    try {
      this.#request(read(bytes));
    } catch (error) {
      this.#log.warn({ err: error }, 'xDS request refused');
      this.end({ code: status.INVALID_ARGUMENT, details: describe(error) });
    }
  }

  #request(request: DeltaDiscoveryRequest): void {
    if (this.#id === '') this.#introduce(request.node);
    const kind = KINDS.get(request.typeUrl);
    if (kind === undefined) {
      this.#answerUnknown(request.typeUrl);
      return;
    }
    const known = this.#flows.get(kind);
    if (known !== undefined && request.responseNonce !== '') this.#acknowledge(known, request);
    const asks = request.resourceNamesSubscribe.length > 0 || request.resourceNamesUnsubscribe.length > 0;
    if (known === undefined || asks) this.#shared.settle();
    const flow = known ?? this.#open(kind, request);
    if (known !== undefined && asks) flow.subscription.update(request);
    if (flow.subscription.size > MAX_NAMES) {
      this.end({ code: status.RESOURCE_EXHAUSTED, details: `more than ${MAX_NAMES} names` });
      return;
    }
    this.#flush(flow);
  }

  #introduce(node: Node | undefined): void {
    if (node === undefined || node.id === '') throw new CulvertError('XDS', 'read first request: no node in it');
    const name = node.metadata?.['NODE_NAME'];
    this.#id = node.id.slice(0, MAX_TEXT);
    this.#node = this.#caller.node ?? (typeof name === 'string' ? name.slice(0, MAX_TEXT) : '');
    this.#log = this.#log.child({ id: this.#id, node: this.#node });
    this.#log.info('xDS stream opened');
  }

  #open(kind: ResourceKind, request: DeltaDiscoveryRequest): Flow {
    const subscription = new Subscription(kind, this.#shared.store, this.#node);
    subscription.open(request);
    const flow = { subscription, unacked: undefined, writing: false, queued: false, acked: '', nacks: 0 };
    this.#flows.set(kind, flow);
    return flow;
  }

  #acknowledge(flow: Flow, { responseNonce, errorDetail }: DeltaDiscoveryRequest): void {
    if (responseNonce !== flow.unacked) {
      this.#log.debug(
        { type: flow.subscription.kind, nonce: responseNonce.slice(0, MAX_TEXT) },
        'acknowledgement of nothing that waits for one',
      );
      return;
    }
    flow.unacked = undefined;
    if (errorDetail === undefined) {
      flow.acked = responseNonce;
      delete flow.refused;
      return;
    }
    // Nothing of it is sent again before it changes: the client would only refuse it again.
    flow.refused = errorDetail.message.slice(0, MAX_TEXT);
    flow.nacks++;
    this.#shared.counters.nacks++;
    this.#log.warn({ type: flow.subscription.kind, nonce: responseNonce, error: flow.refused }, 'xDS response refused by the client');
  }

  #answerUnknown(typeUrl: string): void {
    if (this.#unknown.has(typeUrl) || this.#unknown.size >= MAX_UNKNOWN_TYPES) return;
    this.#unknown.add(typeUrl);
    this.#log.info({ type: typeUrl.slice(0, MAX_TEXT) }, 'client asks for a type that is not served');
    this.#call.write(this.#shared.responses.empty(typeUrl));
  }

  #flush(flow: Flow): void {
    if (flow.queued || !this.#ready(flow)) return;
    if (flow.subscription.waiting <= LARGE_RESOURCES) {
      void this.#send(flow);
      return;
    }
    flow.queued = true;
    void this.#shared.large.run(async () => {
      const ready = this.#ready(flow);
      flow.queued = false;
      if (ready) await within(LARGE_TURN_MS, this.#send(flow));
    });
  }

  #ready(flow: Flow): boolean {
    const ready = (): boolean => !this.#closed && flow.unacked === undefined && !flow.writing && flow.subscription.due;
    if (!ready()) return false;
    if (flow.subscription.readsAhead) this.#shared.settle(); // which comes by here and may have sent it
    return ready();
  }

  /** Resolves when the connection has taken it, or is gone. */
  #send(flow: Flow): Promise<void> {
    const { counters, responses } = this.#shared;
    const response = responses.of(flow.subscription.kind, flow.subscription.take());
    flow.unacked = response.nonce;
    flow.writing = true;
    counters.responses++;
    counters.bytes += response.bytes.length;
    return new Promise((resolve) => {
      this.#call.once('close', resolve);
      this.#call.write(response.bytes, () => {
        this.#call.off('close', resolve);
        flow.writing = false;
        resolve();
        this.#flush(flow);
      });
    });
  }
}

function read(bytes: Buffer): DeltaDiscoveryRequest {
  try {
    return fromBinary(DeltaDiscoveryRequestSchema, bytes);
  } catch (error) {
    throw new CulvertError('XDS', 'read request: no DeltaDiscoveryRequest', error);
  }
}

async function within(ms: number, work: Promise<void>): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, ms).unref();
  });
  await Promise.race([work, late]);
  clearTimeout(timer);
}
