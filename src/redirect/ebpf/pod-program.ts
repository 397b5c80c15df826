/**
 * The sk_lookup program of one netns. The hook has no helper that tells the netns, so each gets a copy of the template with its
 * cookie as a 64-bit immediate: patching and loading is 0.9 ms, and needs no map of constants per pod.
 */
import { CulvertError } from '../../base/errors.ts';
import { COOKIE_SENTINEL } from '../../maps/index.ts';
import { native } from '../../sys/native.ts';
import { LOOKUP_PROGRAM, ProgType, SK_LOOKUP_ATTACH } from './attach-points.ts';

const LD_IMM64 = 0x18;
const INSN = 8;

/**
 * @param template struct bpf_insn[]; not changed
 * @throws CulvertError VERIFIER when the sentinel is not there: the object is not ours or was compiled differently
 */
export function patchCookie(template: Uint8Array, cookie: bigint): Uint8Array {
  const insns = template.slice();
  const view = new DataView(insns.buffer, insns.byteOffset, insns.byteLength);
  let patched = 0;
  for (let at = 0; at + 2 * INSN <= insns.length; at += INSN) {
    if (view.getUint8(at) !== LD_IMM64) continue;
    // a load of 64 bits takes two slots, the immediate's halves at offset 4 of each; src_reg != 0 means a map, not a number
    const plain = view.getUint8(at + 1) >> 4 === 0;
    const value = (BigInt(view.getUint32(at + INSN + 4, true)) << 32n) | BigInt(view.getUint32(at + 4, true));
    if (plain && value === COOKIE_SENTINEL) {
      view.setUint32(at + 4, Number(cookie & 0xffffffffn), true);
      view.setUint32(at + INSN + 4, Number(cookie >> 32n), true);
      patched++;
    }
    at += INSN;
  }
  if (patched === 0) throw new CulvertError('VERIFIER', `patch program ${LOOKUP_PROGRAM}: no place for the netns cookie in it`);
  return insns;
}

/** @returns fd of the loaded program, owned by the caller */
export function loadPodProgram(template: Uint8Array, cookie: bigint): number {
  return native.bpfProgLoad(patchCookie(template, cookie), ProgType.skLookup, SK_LOOKUP_ATTACH, 'culvert_lookup', 'GPL');
}
