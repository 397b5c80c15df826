/** Bytes of map keys, values and events to plain values and back, by the generated layout. The kernel's byte order is the machine's. */
import { endianness } from 'node:os';
import { formatAddress, parseAddress } from './address.ts';
import { structs, type Kind, type Of, type ScalarKind, type StructName } from './layout.ts';

export const LITTLE = endianness() === 'LE';
const SIZES: Record<Exclude<ScalarKind, 'text'>, number> = { u8: 1, u16: 2, u32: 4, i32: 4, u64: 8, port: 2, address: 16 };

interface Field {
  offset: number;
  kind: ScalarKind;
  size?: number;
}
type Value = number | bigint | string;

const isStruct = (kind: Kind): kind is StructName => kind in structs;
const fields = new Map(Object.entries(structs).map(([name, struct]) => [name, Object.entries<Field>(struct.fields)]));
const fieldsOf = (name: StructName): [string, Field][] => fields.get(name) ?? [];
const viewOf = (bytes: Uint8Array): DataView => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);

export function sizeOf(kind: Kind): number {
  if (isStruct(kind)) return structs[kind].size;
  return kind === 'text' ? 0 : SIZES[kind];
}

/** @throws RangeError for text that does not fit, NUL included, and for what is no address */
export function encode<K extends Kind>(kind: K, value: Of<K>): Uint8Array {
  const bytes = new Uint8Array(sizeOf(kind));
  if (isStruct(kind)) {
    const struct = value as Record<string, Value>;
    for (const [name, field] of fieldsOf(kind)) {
      const part = struct[name];
      if (part === undefined) throw new RangeError(`encode ${kind}: no ${name}`);
      put(bytes, field, part, `${kind}.${name}`);
    }
  } else {
    put(bytes, { offset: 0, kind: kind }, value as Value, kind);
  }
  return bytes;
}

/** Extra bytes are ignored: a later version may have appended some. */
export function decode<K extends Kind>(kind: K, bytes: Uint8Array): Of<K> {
  if (!isStruct(kind)) return take(bytes, { offset: 0, kind: kind }) as Of<K>;
  const struct: Record<string, Value> = {}; // filled in the loop: a node's counters are tens of thousands
  for (const [name, field] of fieldsOf(kind)) struct[name] = take(bytes, field);
  return struct as Of<K>;
}

function put(bytes: Uint8Array, { offset, kind, size = 0 }: Field, value: Value, what: string): void {
  const view = viewOf(bytes);
  switch (kind) {
    case 'u8': {
      view.setUint8(offset, Number(value));
      return;
    }
    case 'u16': {
      view.setUint16(offset, Number(value), LITTLE);
      return;
    }
    case 'u32': {
      view.setUint32(offset, Number(value), LITTLE);
      return;
    }
    case 'i32': {
      view.setInt32(offset, Number(value), LITTLE);
      return;
    }
    case 'u64': {
      view.setBigUint64(offset, BigInt(value), LITTLE);
      return;
    }
    case 'port': {
      view.setUint16(offset, Number(value), false);
      return;
    }
    case 'address': {
      bytes.set(parseAddress(String(value)), offset);
      return;
    }
    case 'text': {
      const text = Buffer.from(String(value), 'utf8');
      if (text.length >= size) throw new RangeError(`encode ${what}: ${text.length} bytes, room for ${size - 1}`);
      bytes.set(text, offset);
      return;
    }
  }
}

function take(bytes: Uint8Array, { offset, kind, size = 0 }: Field): Value {
  const view = viewOf(bytes);
  switch (kind) {
    case 'u8':
      return view.getUint8(offset);
    case 'u16':
      return view.getUint16(offset, LITTLE);
    case 'u32':
      return view.getUint32(offset, LITTLE);
    case 'i32':
      return view.getInt32(offset, LITTLE);
    case 'u64':
      return view.getBigUint64(offset, LITTLE);
    case 'port':
      return view.getUint16(offset, false);
    case 'address':
      return formatAddress(bytes.subarray(offset, offset + SIZES.address));
    case 'text': {
      const text = Buffer.from(bytes.subarray(offset, offset + size));
      const end = text.indexOf(0);
      return text.toString('utf8', 0, end < 0 ? size : end);
    }
  }
}
