/**
 * Follows a control plane by delta ADS, as ztunnel does. The stream is made again for ever, and each begins with what is still held,
 * so that only what changed meanwhile comes over it.
 *
 * What went away during an outage is known from `removed_resources` alone: a server must name there what the client said it holds
 * and that is no more. It need not send again what is unchanged, so nothing can be concluded from what its first response leaves out.
 * ztunnel relies on the same.
 */
import { create } from '@bufbuild/protobuf';
import { status } from '@grpc/grpc-js';
import { setTimeout as rest } from 'node:timers/promises';
import type { Logger } from '../../base/log.ts';
import {
  DeltaDiscoveryRequestSchema,
  type DeltaDiscoveryRequest,
  type DeltaDiscoveryResponse,
  type Node,
} from '../../proto/discovery_pb.js';
import type { ControlPlaneChannel } from '../../rpc/channel.ts';
import { ADDRESS_TYPE, AUTHORIZATION_TYPE } from '../../rpc/services.ts';
import type { StateStore } from '../../state/store.ts';
import type { FeedEvents } from '../feed.ts';
import { Backoff } from './backoff.ts';
import { convert, type Conversion, type Converted, type ResourceType } from './convert.ts';
import type { Demands } from './demands.ts';
import { faultText } from './faults.ts';
import { Mirror } from './mirror.ts';
import { Outages } from './outages.ts';
import { Reports } from './reports.ts';
import { runStream, type StreamUser } from './stream.ts';

/** Since the start. */
export interface XdsStats {
  responses: number;
  /** of responses, encoded, without HTTP/2 and TLS */
  bytes: number;
  acks: number;
  nacks: number;
  /** streams after the first */
  reconnects: number;
}

export interface FollowerOptions {
  channel: ControlPlaneChannel;
  node: Node;
  network: string;
  /** undefined: everything is wanted */
  demands: Demands | undefined;
  /** counted up */
  stats: XdsStats;
  log: Logger;
  store: StateStore;
  events: FeedEvents;
}

const TYPES: readonly ResourceType[] = [ADDRESS_TYPE, AUTHORIZATION_TYPE];
/** All resources; subscribing to it and leaving it at once means none for the time being, which an empty list would not. */
const WILDCARD = '*';

export class Follower implements StreamUser {
  readonly #options: FollowerOptions;
  readonly #mirror: Mirror;
  readonly #reports: Reports;
  readonly #outages: Outages;
  readonly #backoff = new Backoff();
  readonly #closing = new AbortController();
  /** Types whose whole content was not accepted yet. As in ztunnel a refused response does not count: something is missing of it. */
  readonly #awaited: Set<string>;
  #send: ((request: DeltaDiscoveryRequest) => void) | undefined;
  /** the present stream was of use */
  #useful = false;

  constructor(options: FollowerOptions) {
    this.#options = options;
    const { channel, log, store, events, demands, network } = options;
    const onError = (error: Error): void => {
      if (!this.#closing.signal.aborted) events.onError(error);
    };
    this.#mirror = new Mirror(store, demands === undefined ? undefined : (resource) => demandNames(network, resource));
    this.#reports = new Reports(log, onError);
    this.#outages = new Outages(channel.address.url, log, onError);
    this.#awaited = new Set(demands === undefined ? TYPES : [AUTHORIZATION_TYPE]);
  }

  /** Until closed. Never rejects. */
  async run(): Promise<void> {
    const { signal } = this.#closing;
    for (;;) {
      const began = performance.now();
      this.#useful = false;
      this.#outages.opened();
      const error = await runStream(this.#options.channel, this, signal);
      this.#send = undefined;
      if (signal.aborted) return;
      this.#outages.ended(error, this.#useful);
      const wait = this.#backoff.after(this.#useful, performance.now() - began);
      if (!(await rested(wait, signal))) return;
      this.#options.stats.reconnects++;
    }
  }

  /** Nothing is applied or told any more. */
  close(): void {
    this.#closing.abort();
    this.#outages.close();
  }

  subscribe(change: { subscribe?: string[]; unsubscribe?: string[] }): void {
    this.#send?.(
      create(DeltaDiscoveryRequestSchema, {
        typeUrl: ADDRESS_TYPE,
        resourceNamesSubscribe: change.subscribe ?? [],
        resourceNamesUnsubscribe: change.unsubscribe ?? [],
      }),
    );
  }

  opened(send: (request: DeltaDiscoveryRequest) => void): void {
    this.#send = send;
    for (const type of TYPES) send(this.#firstRequest(type));
  }

  received(bytes: number): void {
    this.#options.stats.bytes += bytes;
  }

  async responded(response: DeltaDiscoveryResponse): Promise<void> {
    const { stats, network } = this.#options;
    stats.responses++;
    const type = TYPES.find((known) => known === response.typeUrl);
    if (type === undefined) {
      this.#refuseType(response);
      return;
    }
    const conversion = await convert(response.resources, type, network, this.#closing.signal);
    if (conversion === undefined || this.#closing.signal.aborted) return;
    this.#apply(type, conversion, response.removedResources);
    this.#answer(
      response,
      conversion.rejected.flatMap(({ faults }) => faults),
    );
    if (conversion.rejected.length === 0) this.#accepted(type);
  }

  #firstRequest(type: ResourceType): DeltaDiscoveryRequest {
    const { node, demands } = this.#options;
    const onDemand = type === ADDRESS_TYPE && demands !== undefined;
    return create(DeltaDiscoveryRequestSchema, {
      node,
      typeUrl: type,
      initialResourceVersions: this.#mirror.versions(type),
      ...(onDemand ? { resourceNamesSubscribe: [WILDCARD, ...demands.names()], resourceNamesUnsubscribe: [WILDCARD] } : {}),
    });
  }

  #apply(type: ResourceType, { good, rejected }: Conversion, removed: readonly string[]): void {
    const applied = this.#mirror.apply(type, good, removed);
    this.#reports.settled(type, [...good.map(({ name }) => name), ...removed]);
    this.#reports.applied(applied);
    this.#reports.rejected(type, rejected);
    if (type === ADDRESS_TYPE) this.#answerDemands(good, rejected, applied.gone);
  }

  /** After the state has it: who asked looks there. */
  #answerDemands(good: readonly Converted[], rejected: Conversion['rejected'], gone: ReadonlySet<string>): void {
    const { demands, network } = this.#options;
    if (demands === undefined) return;
    demands.answered(gone, false);
    for (const { name, aliases } of rejected) demands.answered([name, ...aliases], this.#mirror.has(ADDRESS_TYPE, name));
    for (const resource of good) {
      const held = this.#mirror.has(ADDRESS_TYPE, resource.name);
      demands.answered([resource.name, ...demandNames(network, resource)], held);
    }
  }

  #refuseType(response: DeltaDiscoveryResponse): void {
    const fault = `type ${JSON.stringify(response.typeUrl)} was not asked for`;
    this.#reports.rejected(response.typeUrl, [{ name: '', aliases: [], faults: [fault] }]);
    this.#answer(response, [fault]);
  }

  /** ACK, or NACK with all that is wrong. */
  #answer({ typeUrl, nonce }: DeltaDiscoveryResponse, faults: readonly string[]): void {
    const refused = faults.length > 0;
    if (refused) this.#options.stats.nacks++;
    else this.#options.stats.acks++;
    this.#send?.(
      create(DeltaDiscoveryRequestSchema, {
        typeUrl,
        responseNonce: nonce,
        ...(refused ? { errorDetail: { code: status.INVALID_ARGUMENT, message: faultText(faults) } } : {}),
      }),
    );
    this.#useful = true;
    this.#outages.answered();
  }

  #accepted(type: ResourceType): void {
    if (!this.#awaited.delete(type) || this.#awaited.size > 0) return;
    this.#options.events.onSynced();
  }
}

/** @returns false when it was cut short: closed */
function rested(ms: number, signal: AbortSignal): Promise<boolean> {
  return rest(ms, true, { signal, ref: false }).catch(() => false);
}

/** What a resource can be asked for by. Its addresses are named too, for control planes that send no aliases. */
function demandNames(network: string, { aliases, ...resource }: Converted): string[] {
  if (resource.kind === 'workload') return [...aliases, ...resource.value.ips.map((ip) => `${resource.value.network}/${ip}`)];
  return resource.kind === 'service' ? [...aliases, ...resource.value.vips.map((vip) => `${network}/${vip}`)] : [...aliases];
}
