/** Delta responses, framed by hand around resources that are encoded already: what most of a response is made of is only copied. */
import { BinaryWriter, WireType } from '@bufbuild/protobuf/wire';

export interface ResponseContent {
  typeUrl: string;
  nonce: string;
  /** for people only: clients resume by the versions of the resources */
  systemVersion: string;
  /** encoded `Resource` messages */
  resources: readonly Uint8Array[];
  /** names */
  removed: readonly string[];
}

/** Field 2, length-delimited. */
const RESOURCE_TAG = 0x12;

/** `DeltaDiscoveryResponse` {system_version_info = 1, resources = 2, type_url = 4, nonce = 5, removed_resources = 6} */
export function encodeResponse({ typeUrl, nonce, systemVersion, resources, removed }: ResponseContent): Buffer {
  const writer = new BinaryWriter();
  writer.tag(1, WireType.LengthDelimited).string(systemVersion);
  writer.tag(4, WireType.LengthDelimited).string(typeUrl);
  writer.tag(5, WireType.LengthDelimited).string(nonce);
  for (const name of removed) writer.tag(6, WireType.LengthDelimited).string(name);
  const head = writer.finish();
  const size = resources.reduce((sum, { length }) => sum + 1 + varintBytes(length) + length, head.length);
  const bytes = Buffer.allocUnsafe(size);
  bytes.set(head);
  let at = head.length;
  for (const resource of resources) {
    bytes[at++] = RESOURCE_TAG;
    at = writeVarint(bytes, at, resource.length);
    bytes.set(resource, at);
    at += resource.length;
  }
  return bytes;
}

function varintBytes(value: number): number {
  let bytes = 1;
  for (let rest = value >>> 7; rest > 0; rest >>>= 7) bytes++;
  return bytes;
}

function writeVarint(bytes: Uint8Array, start: number, value: number): number {
  let at = start;
  let rest = value;
  for (; rest > 0x7f; rest >>>= 7) bytes[at++] = (rest & 0x7f) | 0x80;
  bytes[at++] = rest;
  return at;
}
