/**
 * The sk_lookup program of one netns. The hook has no helper that tells the netns, so each gets a copy of the template with a map of its
 * own, whose one value is its cookie. The program reads it there and not from an immediate, so it can be loaded before its netns is
 * known (spare-programs.ts): loading is 2 ms, naming the netns one write.
 */
import { CulvertError } from '../../base/errors.ts';
import { encode } from '../../maps/index.ts';
import { native, type LoadedObject } from '../../sys/native.ts';
import { LOOKUP_PROGRAM, ProgType, SK_LOOKUP_ATTACH } from './attach-points.ts';

/** The section of bpf/sk_lookup.bpf.c that is the cookie and nothing else; libbpf makes it a map of the same name. */
const COOKIE_SECTION = '.rodata.netns';
const COOKIE_BYTES = 8;

/** uapi linux/bpf.h: loads the address of a map's value */
const LD_IMM64 = 0x18;
const PSEUDO_MAP_VALUE = 2;
const INSN = 8;

/** uapi linux/bpf.h */
const MAP_TYPE_ARRAY = 2;
const F_RDONLY_PROG = 1 << 7;

export interface PodTemplate {
  /** struct bpf_insn[], with fds of this process for maps */
  instructions: Uint8Array;
  /** the one among them that stands for the cookie's map */
  cookieFd: number;
}

/** @throws CulvertError VERIFIER when the program does not read its cookie from such a map: the object is not ours or was compiled differently */
export function podTemplate(object: LoadedObject): PodTemplate {
  const map = object.maps.find(({ name }) => name === COOKIE_SECTION);
  if (map?.valueSize !== COOKIE_BYTES) throw refused(`the object has no section ${COOKIE_SECTION} of ${COOKIE_BYTES} bytes`);
  const template = { instructions: native.bpfInstructions(object, LOOKUP_PROGRAM), cookieFd: map.fd };
  patchCookieMap(template, map.fd);
  return template;
}

/** @returns the template's instructions with another map for the cookie @throws CulvertError VERIFIER when there is no place for it */
export function patchCookieMap({ instructions, cookieFd }: PodTemplate, fd: number): Uint8Array {
  const insns = instructions.slice();
  const view = new DataView(insns.buffer, insns.byteOffset, insns.byteLength);
  let patched = 0;
  for (let at = 0; at + 2 * INSN <= insns.length; at += INSN) {
    if (view.getUint8(at) !== LD_IMM64) continue;
    // it takes two slots: the fd is the immediate of the first, where in the value that of the second; src_reg says what the first is
    if (view.getUint8(at + 1) >> 4 === PSEUDO_MAP_VALUE && view.getInt32(at + 4, true) === cookieFd) {
      if (view.getUint32(at + INSN + 4, true) !== 0) throw refused('it reads beside its netns cookie');
      view.setInt32(at + 4, fd, true);
      patched++;
    }
    at += INSN;
  }
  if (patched === 0) throw refused('no place for the netns cookie in it');
  return insns;
}

/** @returns fd of the loaded program, owned by the caller */
export function loadPodProgram(template: PodTemplate, cookie: bigint): number {
  const map = createCookieMap();
  try {
    writeCookie(map, cookie);
    return native.bpfProgLoad(patchCookieMap(template, map), ...PROGRAM);
  } finally {
    native.closeFd(map); // the program holds it
  }
}

/** Loaded and of no netns yet: its cookie is 0, which none has. */
export class SpareProgram {
  readonly #program: number;
  readonly #map: number;

  private constructor(program: number, map: number) {
    this.#program = program;
    this.#map = map;
  }

  /** On another thread. */
  static async load(template: PodTemplate): Promise<SpareProgram> {
    const map = createCookieMap();
    try {
      return new SpareProgram(await native.bpfProgLoadAside(patchCookieMap(template, map), ...PROGRAM), map);
    } catch (error) {
      native.closeFd(map);
      throw error;
    }
  }

  /** Once, and then it is not closed any more. @returns fd of the program, owned by the caller */
  give(cookie: bigint): number {
    writeCookie(this.#map, cookie);
    native.closeFd(this.#map);
    return this.#program;
  }

  close(): void {
    native.closeFd(this.#program);
    native.closeFd(this.#map);
  }
}

const PROGRAM = [ProgType.skLookup, SK_LOOKUP_ATTACH, 'culvert_lookup', 'GPL'] as const;

function createCookieMap(): number {
  const shape = { keySize: 4, valueSize: COOKIE_BYTES, maxEntries: 1, flags: F_RDONLY_PROG };
  return native.bpfMapCreate(MAP_TYPE_ARRAY, 'culvert_netns', shape);
}

function writeCookie(map: number, cookie: bigint): void {
  native.bpfMap(map).update(encode('u32', 0), encode('u64', cookie));
}

function refused(why: string): CulvertError {
  return new CulvertError('VERIFIER', `patch program ${LOOKUP_PROGRAM}: ${why}`);
}
