/** One stream of delta ADS, from its first request to its end. Responses are handed on one at a time: the next waits in the stream. */
import type { ServiceError } from '@grpc/grpc-js';
import type { DeltaDiscoveryRequest, DeltaDiscoveryResponse } from '../../proto/discovery_pb.js';
import type { ControlPlaneChannel } from '../../rpc/channel.ts';
import { deltaAggregatedResources } from '../../rpc/services.ts';

export interface StreamUser {
  /** @param send does nothing once the stream has ended */
  opened(send: (request: DeltaDiscoveryRequest) => void): void;
  /** What was received, encoded. */
  received(bytes: number): void;
  /** A rejection ends the stream with it. */
  responded(response: DeltaDiscoveryResponse): Promise<void>;
}

/**
 * Resolves when the stream has ended and everything that came over it was handled.
 * @returns why, a ServiceError of grpc or our own error; undefined when the server ended it without complaint
 */
export async function runStream(channel: ControlPlaneChannel, user: StreamUser, signal: AbortSignal): Promise<unknown> {
  let opened;
  try {
    opened = await Promise.all([channel.client(), channel.metadata()]);
  } catch (error) {
    return error;
  }
  if (signal.aborted) return undefined;
  const [client, metadata] = opened;
  const { path, requestSerialize, responseDeserialize } = deltaAggregatedResources;
  const decode = (bytes: Buffer): DeltaDiscoveryResponse => {
    user.received(bytes.length);
    return responseDeserialize(bytes);
  };
  const call = client.makeBidiStreamRequest(path, requestSerialize, decode, metadata);
  const { promise, resolve } = Promise.withResolvers<unknown>();
  let error: unknown;
  let over = false;
  let drained = false;
  const finish = (): void => {
    if (over && (drained || signal.aborted)) resolve(error);
  };
  const cancel = (): void => call.cancel();
  signal.addEventListener('abort', cancel, { once: true });
  call.on('data', (response: DeltaDiscoveryResponse) => {
    call.pause();
    user
      .responded(response)
      .catch((cause: unknown) => {
        error ??= cause;
        call.cancel();
      })
      .finally(() => call.resume());
  });
  call.on('error', (status: ServiceError) => (error ??= status));
  call.on('status', () => {
    over = true;
    finish();
  });
  call.on('end', () => {
    drained = true;
    finish();
  });
  user.opened((request) => {
    if (!over) call.write(request);
  });
  try {
    return await promise;
  } finally {
    signal.removeEventListener('abort', cancel);
  }
}
