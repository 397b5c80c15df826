/** Delta ADS: streams the resources of the store to the tunnels, changes as they come. */
import { status } from '@grpc/grpc-js';
import type { Logger } from '../../base/log.ts';
import { Slots } from '../../base/slots.ts';
import { deltaAggregatedResources } from '../../rpc/services.ts';
import type { Authenticator, Caller } from '../authenticator.ts';
import type { ResourceStore } from '../resource-store.ts';
import type { ResourceChange, ResourceKind } from '../resources.ts';
import type { Method } from '../server.ts';
import { authorize, refusalOf } from './authorize.ts';
import { Batch } from './batch.ts';
import type { AdsCounters } from './counters.ts';
import { Debounce, type DebounceTimes } from './debounce.ts';
import { Responses } from './responses.ts';
import { AdsStream, type AdsCall, type AdsSession, type AdsShared } from './stream.ts';

export interface AdsOptions extends Partial<DebounceTimes> {
  store: ResourceStore;
  authenticator: Authenticator;
  /** "namespace/name" of the service accounts that may watch */
  allowedAccounts: readonly string[];
  /** resolves when the store holds the whole mesh: nothing is answered before */
  ready: Promise<void>;
  log: Logger;
  /** after about this long a stream is ended and the client opens the next one, with its newest token, perhaps at another replica */
  maxAgeMs?: number;
}

const QUIET_MS = 10;
const MAX_DELAY_MS = 100;
const GAP_MS = 50;
const MAX_AGE_MS = 30 * 60_000;
/** Streams that began together shall not end together. */
const AGE_SPREAD = 0.2;
const LARGE_AT_ONCE = 4;

/** Requests and responses as bytes: a bad request is answered with its reason, and a response is not encoded for each stream. */
const RAW = {
  ...deltaAggregatedResources,
  requestDeserialize: (bytes: Buffer) => bytes,
  responseSerialize: (bytes: Buffer) => bytes,
};

export class AdsServer {
  readonly method: Method;
  readonly #options: AdsOptions;
  readonly #allowed: ReadonlySet<string>;
  readonly #streams = new Set<AdsStream>();
  readonly #pending = new Map<ResourceKind, Batch>();
  readonly #counters: AdsCounters = { streams: 0, refused: 0, pushes: 0, responses: 0, bytes: 0, nacks: 0 };
  readonly #responses: Responses;
  readonly #debounce: Debounce;
  readonly #shared: AdsShared;
  readonly #unwatch: () => void;
  #closed = false;

  constructor(options: AdsOptions) {
    const { store, quietMs = QUIET_MS, maxDelayMs = MAX_DELAY_MS, gapMs = GAP_MS } = options;
    this.#options = options;
    this.#allowed = new Set(options.allowedAccounts);
    this.#responses = new Responses(store);
    this.#debounce = new Debounce({ quietMs, maxDelayMs, gapMs }, () => this.#push());
    this.#shared = {
      store,
      responses: this.#responses,
      counters: this.#counters,
      large: new Slots(LARGE_AT_ONCE),
      settle: () => this.#debounce.now(),
    };
    this.#unwatch = store.onChange((change) => this.#changed(change));
    this.method = { definition: RAW, handler: (call: AdsCall) => void this.#accept(call) };
  }

  sessions(): AdsSession[] {
    return [...this.#streams].map(({ session }) => session);
  }

  counters(): Readonly<AdsCounters> {
    return this.#counters;
  }

  /** Ends all streams; clients go on with what they have and look for another replica. */
  close(): void {
    this.#closed = true;
    this.#unwatch();
    this.#debounce.close();
    for (const stream of [...this.#streams]) stream.end(GOING);
  }

  async #accept(call: AdsCall): Promise<void> {
    const { authenticator, log, ready } = this.#options;
    try {
      const caller = await authorize(call.metadata, authenticator, this.#allowed);
      await ready;
      if (this.#closed) refuse(call, GOING);
      else if (!call.cancelled) this.#serve(call, caller);
    } catch (error) {
      this.#counters.refused++;
      log.warn({ err: error, peer: call.getPeer() }, 'xDS caller refused');
      refuse(call, refusalOf(error));
    }
  }

  #serve(call: AdsCall, caller: Caller): void {
    const { log, maxAgeMs = MAX_AGE_MS } = this.#options;
    const stream = new AdsStream(call, caller, this.#shared, log);
    this.#counters.streams++;
    this.#streams.add(stream);
    const spread = 1 + AGE_SPREAD * (Math.random() - 0.5);
    const age = setTimeout(() => stream.end(), maxAgeMs * spread).unref();
    call.once('close', () => {
      clearTimeout(age);
      this.#streams.delete(stream);
    });
  }

  #changed(change: ResourceChange): void {
    this.#responses.changed(change.kind);
    if (this.#streams.size === 0) return;
    const batch = this.#pending.get(change.kind) ?? new Batch();
    this.#pending.set(change.kind, batch);
    batch.add(change);
    this.#debounce.touch();
  }

  #push(): void {
    const pending = [...this.#pending];
    this.#pending.clear();
    for (const [kind, batch] of pending) {
      if (batch.empty) continue;
      this.#counters.pushes++;
      for (const stream of this.#streams) stream.push(kind, batch);
    }
  }
}

const GOING = { code: status.UNAVAILABLE, details: 'control is shutting down' };

function refuse(call: AdsCall, refusal: { code: status; details: string }): void {
  call.emit('error', Object.assign(new Error(refusal.details), refusal));
}
