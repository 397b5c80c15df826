/**
 * Types and constants of the layout that C and TypeScript share. The facts are in layout.gen.ts, generated from the object's BTF;
 * here they become types, so that a renamed field in C is a type error.
 */
import { enums, maps, programs, structs } from './layout.gen.ts';

export { enums, maps, programs, structs };

export type Structs = typeof structs;
export type StructName = keyof Structs;
export type MapName = keyof typeof maps;
export type ReasonName = keyof typeof enums.reason;

/** u64 is bigint; ports are in host order; an address is canonical text, "10.0.0.1" or "fd00::1". */
export type ScalarKind = 'u8' | 'u16' | 'u32' | 'i32' | 'u64' | 'port' | 'address' | 'text';
export type Scalar<K> = K extends 'u64' ? bigint : K extends 'address' | 'text' ? string : number;

type Fields<S extends StructName> = Structs[S]['fields'];
export type Struct<S extends StructName> = { -readonly [F in keyof Fields<S>]: Fields<S>[F] extends { kind: infer K } ? Scalar<K> : never };

export type Kind = ScalarKind | StructName;
export type Of<K> = K extends StructName ? Struct<K> : Scalar<K>;

/** Key and value of a map by its C name. */
export type KeyOf<N extends MapName> = Of<(typeof maps)[N]['key']>;
export type ValueOf<N extends MapName> = Of<(typeof maps)[N]['value']>;

export type Identity = Struct<'identity'>;
export type Pod = Struct<'pod'>;
export type Owner = Struct<'owner'>;

export const wire = enums.wire;

/** Where a tunnel listens in each netns. */
export const TUNNEL_PORTS = [wire.PORT_OUTBOUND, wire.PORT_INBOUND, wire.PORT_HBONE, wire.PORT_DNS] as const;
export const podState = enums.pod_state;
export const podFlag = enums.pod_flag;

/** enum reason, enum event_class */
export const REASON = enums.reason;
export const EVENT_CLASS = enums.event_class;

/** Of the layouts that this code speaks; the pinned `owner` says which one the maps have. */
export const ABI = enums.abi.CULVERT_ABI;
