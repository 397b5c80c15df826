/**
 * ZDS on the wire: one protobuf message per SEQPACKET packet, at most 1024 bytes either way (both ends receive into a buffer of
 * that size and treat truncation as an error), never an empty one (the peer would take it for the end of the stream).
 */
import { create, fromBinary, toBinary, type MessageInitShape } from '@bufbuild/protobuf';
import { CulvertError } from '../base/errors.ts';
import { Version, WorkloadRequestSchema, WorkloadResponseSchema, ZdsHelloSchema } from '../proto/zds_pb.js';

export const MAX_PACKET = 1024;
/** what the framing of an Ack takes of MAX_PACKET: two tags and two lengths of two bytes */
const ACK_FRAMING = 6;

export interface WorkloadInfo {
  name: string;
  namespace: string;
  serviceAccount: string;
}

/** Agent to tunnel. `add` travels with exactly one fd, the pod's netns; the others with none. */
export type ZdsRequest =
  | { kind: 'add'; uid: string; workload: WorkloadInfo }
  | { kind: 'keep'; uid: string }
  | { kind: 'del'; uid: string }
  | { kind: 'snapshotSent' };

/** Tunnel to agent. An empty error is success. */
export interface ZdsAck {
  error: string;
}

/** Version 1, the only one there is. */
export function encodeHello(): Uint8Array {
  return bounded('hello', toBinary(ZdsHelloSchema, create(ZdsHelloSchema, { version: Version.V1 })));
}

/** @returns the version offered; a higher one than ours is the caller's to judge. @throws ZDS_PROTOCOL */
export function decodeHello(packet: Uint8Array): number {
  const hello = decode('hello', packet, () => fromBinary(ZdsHelloSchema, packet));
  if (hello.version === Version.NOT_USED) throw new CulvertError('ZDS_PROTOCOL', 'decode ZDS hello: no version in it');
  return hello.version;
}

/** @throws ZDS_PROTOCOL when names are so long that the packet would exceed MAX_PACKET */
export function encodeRequest(request: ZdsRequest): Uint8Array {
  return bounded(request.kind, toBinary(WorkloadRequestSchema, create(WorkloadRequestSchema, { payload: payloadOf(request) })));
}

/** @throws ZDS_PROTOCOL for garbage, an unknown payload, a missing uid, or an Add without workload_info */
export function decodeRequest(packet: Uint8Array): ZdsRequest {
  const { payload } = decode('request', packet, () => fromBinary(WorkloadRequestSchema, packet));
  switch (payload.case) {
    case 'add': {
      const { uid, workloadInfo: info } = payload.value;
      if (info === undefined) throw new CulvertError('ZDS_PROTOCOL', `decode ZDS add: workload_info missing for uid "${uid}"`);
      return {
        kind: 'add',
        uid: named('add', uid),
        workload: { name: info.name, namespace: info.namespace, serviceAccount: info.serviceAccount },
      };
    }
    case 'keep':
      return { kind: 'keep', uid: named('keep', payload.value.uid) };
    case 'del':
      return { kind: 'del', uid: named('del', payload.value.uid) };
    case 'snapshotSent':
      return { kind: 'snapshotSent' };
    default:
      throw new CulvertError('ZDS_PROTOCOL', 'decode ZDS request: no payload that this version knows');
  }
}

/** @param error "" acknowledges; a longer text than fits is cut, because an oversized Ack would cost the connection */
export function encodeAck(error = ''): Uint8Array {
  const value = { error: truncateUtf8(error, MAX_PACKET - ACK_FRAMING) };
  return bounded('ack', toBinary(WorkloadResponseSchema, create(WorkloadResponseSchema, { payload: { case: 'ack', value } })));
}

/** @throws ZDS_PROTOCOL */
export function decodeResponse(packet: Uint8Array): ZdsAck {
  const { payload } = decode('response', packet, () => fromBinary(WorkloadResponseSchema, packet));
  if (payload.case !== 'ack') throw new CulvertError('ZDS_PROTOCOL', 'decode ZDS response: it is no ack');
  return { error: payload.value.error };
}

type Payload = NonNullable<MessageInitShape<typeof WorkloadRequestSchema>['payload']>;

function payloadOf(request: ZdsRequest): Payload {
  switch (request.kind) {
    case 'add':
      return { case: 'add', value: { uid: request.uid, workloadInfo: request.workload } };
    case 'keep':
      return { case: 'keep', value: { uid: request.uid } };
    case 'del':
      return { case: 'del', value: { uid: request.uid } };
    case 'snapshotSent':
      return { case: 'snapshotSent', value: {} };
  }
}

function decode<T>(what: string, packet: Uint8Array, parse: () => T): T {
  if (packet.length === 0) throw new CulvertError('ZDS_PROTOCOL', `decode ZDS ${what}: empty packet`);
  try {
    return parse();
  } catch (error) {
    throw new CulvertError('ZDS_PROTOCOL', `decode ZDS ${what}: ${String(packet.length)} bytes that are no such message`, error);
  }
}

function bounded(what: string, packet: Uint8Array): Uint8Array {
  if (packet.length > 0 && packet.length <= MAX_PACKET) return packet;
  const message = `encode ZDS ${what}: ${String(packet.length)} bytes, a packet holds 1 to ${String(MAX_PACKET)}`;
  throw new CulvertError('ZDS_PROTOCOL', message, undefined, { retryable: false });
}

function named(what: string, uid: string): string {
  if (uid !== '') return uid;
  throw new CulvertError('ZDS_PROTOCOL', `decode ZDS ${what}: uid missing`);
}

function truncateUtf8(text: string, maxBytes: number): string {
  const bytes = Buffer.from(text);
  if (bytes.length <= maxBytes) return text;
  let end = maxBytes;
  while (end > 0 && ((bytes[end] ?? 0) & 0xc0) === 0x80) end--; // never inside a character: protobuf strings must be UTF-8
  return bytes.subarray(0, end).toString();
}
