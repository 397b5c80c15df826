import { describe, expect, test } from 'vitest';
import { COOKIE_SENTINEL } from '../../../src/maps/index.ts';
import { patchCookie } from '../../../src/redirect/ebpf/pod-program.ts';

/** struct bpf_insn */
function insn(code: number, source: number, imm: number): number[] {
  const bytes = new Uint8Array(8);
  bytes[0] = code;
  bytes[1] = source << 4;
  new DataView(bytes.buffer).setUint32(4, imm, true);
  return [...bytes];
}
const low = Number(COOKIE_SENTINEL & 0xffffffffn);
const high = Number(COOKIE_SENTINEL >> 32n);
const load = (source: number, lo: number, hi: number): number[] => [...insn(0x18, source, lo), ...insn(0, 0, hi)];
const exit = insn(0x95, 0, 0);

describe('the netns cookie in the program of a pod', () => {
  test('replaces every 64-bit immediate that is the sentinel, and nothing else', () => {
    const other = load(0, low, high + 1);
    const map = load(1, low, high); // a map's fd may have any value
    const template = Uint8Array.from([...load(0, low, high), ...other, ...map, ...load(0, low, high), ...exit]);
    const patched = patchCookie(template, 0x1122334455667788n);
    const cookie = load(0, 0x55667788, 0x11223344);
    expect([...patched]).toEqual([...cookie, ...other, ...map, ...cookie, ...exit]);
  });

  test('leaves the template as it is', () => {
    const template = Uint8Array.from([...load(0, low, high), ...exit]);
    const before = template.slice();
    patchCookie(template, 7n);
    expect(template).toEqual(before);
  });

  test('second half of a load is no instruction', () => {
    const template = Uint8Array.from([...insn(0x18, 0, 0), ...insn(0x18, 0, low), ...insn(0, 0, high), ...exit]);
    expect(() => patchCookie(template, 7n)).toThrow(/no place/);
  });

  test('an object without the sentinel is refused', () => {
    expect(() => patchCookie(Uint8Array.from(exit), 7n)).toThrow(expect.objectContaining({ code: 'VERIFIER' }));
  });
});
