/** One BPF map with decoded keys and values. */
import { constants } from 'node:os';
import { CulvertError, isSystem } from '../base/errors.ts';
import { native, type BpfMap } from '../sys/native.ts';
import { decode, encode, LITTLE } from './codec.ts';
import { maps, type KeyOf, type Kind, type MapName, type ValueOf } from './layout.ts';

/** bpf(2), flags of BPF_MAP_UPDATE_ELEM */
export const Update = { any: 0, noExist: 1, exist: 2 } as const;

/** The maps that have keys and can be read from outside of a program. */
export type TypedMapName = Exclude<MapName, 'events' | 'dns_dst' | 'tunnel_tag' | 'host_sock'>;

const refused = (code: 'EBADF' | 'ENOENT', why: string): Error =>
  Object.assign(new Error(`${code}: ${why}`), { code, errno: constants.errno[code], syscall: 'bpf' });

/** A map that is not there is empty, and takes nothing. */
const ABSENT: BpfMap = {
  lookup: () => undefined,
  update: () => {
    throw refused('ENOENT', 'the version that pinned the maps had none of this name');
  },
  delete: () => false,
  deleteAll: () => 0,
};

/** The fd belongs to whoever opened it: see open.ts. */
export class TypedMap<N extends TypedMapName> {
  readonly name: N;
  /** -1: there is no such map */
  readonly fd: number;
  #map: BpfMap | undefined;
  readonly #key: Kind;
  readonly #value: Kind;
  readonly #perCpu: boolean;

  /** @param fd undefined: there is no such map, it reads as an empty one */
  constructor(name: N, fd: number | undefined) {
    this.name = name;
    this.fd = fd ?? -1;
    this.#map = fd === undefined ? ABSENT : native.bpfMap(fd);
    this.#key = maps[name].key;
    this.#value = maps[name].value;
    this.#perCpu = maps[name].type === 'percpu_hash';
  }

  get(key: KeyOf<N>): ValueOf<N> | undefined {
    const bytes = this.#do('look up', () => this.#handle().lookup(this.#encodeKey(key)));
    return bytes === undefined ? undefined : this.#decodeValue(bytes);
  }

  has(key: KeyOf<N>): boolean {
    return this.get(key) !== undefined;
  }

  /**
   * For `listeners` the value written is a socket's fd, the one read the socket's cookie. In a per-CPU map, whose values are read as
   * their sum, the first CPU gets the value and the others get zero.
   * @throws CulvertError MAP_FULL; SYSTEM with EEXIST or ENOENT when the flag forbids it
   */
  set(key: KeyOf<N>, value: ValueOf<N>, flags: number = Update.any): void {
    this.#do('update', () => this.#handle().update(this.#encodeKey(key), this.#encodeValue(value), flags));
  }

  /** @returns false when the key was absent */
  delete(key: KeyOf<N>): boolean {
    return this.#do('delete from', () => this.#handle().delete(this.#encodeKey(key)));
  }

  /** @returns how many were there */
  deleteAll(keys: readonly KeyOf<N>[]): number {
    return this.#do('delete from', () => this.#handle().deleteAll(Buffer.concat(keys.map((key) => this.#encodeKey(key)))));
  }

  /** All entries; those that come or go meanwhile may be among them or not. */
  entries(): { key: KeyOf<N>; value: ValueOf<N> }[] {
    if (this.#map === ABSENT) return [];
    return this.#do('dump', () => native.bpfMapDump(this.fd)).map(({ key, value }) => ({
      key: decode(this.#key, key) as KeyOf<N>,
      value: this.#decodeValue(value),
    }));
  }

  keys(): KeyOf<N>[] {
    return this.entries().map((entry) => entry.key);
  }

  /** Deletes what the predicate chooses. @returns how many */
  deleteWhere(chosen: (key: KeyOf<N>, value: ValueOf<N>) => boolean): number {
    return this.entries().filter(({ key, value }) => chosen(key, value) && this.delete(key)).length;
  }

  /** Before its fd is closed, which may be another map's soon: from then on every verb is refused. */
  retire(): void {
    this.#map = undefined;
  }

  /** As created: the loader's size, not the layout's default. */
  get maxEntries(): number {
    return this.#map === ABSENT ? 0 : (native.bpfInfo(this.fd).maxEntries ?? 0);
  }

  #handle(): BpfMap {
    if (this.#map === undefined) throw refused('EBADF', 'it is closed');
    return this.#map;
  }

  #encodeKey(key: KeyOf<N>): Uint8Array {
    return encode(this.#key, key as never);
  }

  #encodeValue(value: ValueOf<N>): Uint8Array {
    const bytes = encode(this.#value, value as never);
    if (!this.#perCpu) return bytes;
    const all = new Uint8Array(bytes.length * native.bpfPossibleCpus());
    all.set(bytes);
    return all;
  }

  #decodeValue(bytes: Uint8Array): ValueOf<N> {
    return (this.#perCpu ? sumOf(bytes) : decode(this.#value, bytes)) as ValueOf<N>;
  }

  #do<T>(verb: string, call: () => T): T {
    try {
      return call();
    } catch (error) {
      if (error instanceof RangeError) throw error; // from the codec: a value of ours that cannot be one
      const full = isSystem(error, 'E2BIG') || isSystem(error, 'ENOSPC');
      throw new CulvertError(
        full ? 'MAP_FULL' : 'SYSTEM',
        `${verb} map ${this.name}${full ? `: full at ${this.maxEntries} entries` : ''}`,
        error,
      );
    }
  }
}

/** A per-CPU value is every CPU's u64, one after the other. */
function sumOf(bytes: Uint8Array): bigint {
  const values = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let sum = 0n;
  for (let at = 0; at + 8 <= bytes.length; at += 8) sum += values.getBigUint64(at, LITTLE);
  return sum;
}
