import { describe, expect, test } from 'vitest';
import { patchCookieMap } from '../../../src/redirect/ebpf/pod-program.ts';

/** struct bpf_insn */
function insn(code: number, source: number, imm: number): number[] {
  const bytes = new Uint8Array(8);
  bytes[0] = code;
  bytes[1] = source << 4;
  new DataView(bytes.buffer).setUint32(4, imm, true);
  return [...bytes];
}
const NUMBER = 0;
const MAP = 1;
const VALUE = 2;
const load = (source: number, low: number, high = 0): number[] => [...insn(0x18, source, low), ...insn(0, 0, high)];
const exit = insn(0x95, 0, 0);
const template = (...parts: number[][]): { instructions: Uint8Array; cookieFd: number } => ({
  instructions: Uint8Array.from(parts.flat()),
  cookieFd: 25,
});

describe("the cookie's map in the program of a pod", () => {
  test('takes the place of the template’s everywhere, and of nothing else', () => {
    const others = [load(VALUE, 26), load(MAP, 25), load(NUMBER, 25)].flat();
    const patched = patchCookieMap(template(load(VALUE, 25), others, load(VALUE, 25), exit), 77);
    expect([...patched]).toEqual([...load(VALUE, 77), ...others, ...load(VALUE, 77), ...exit]);
  });

  test('leaves the template as it is', () => {
    const given = template(load(VALUE, 25), exit);
    const before = given.instructions.slice();
    patchCookieMap(given, 77);
    expect(given.instructions).toEqual(before);
  });

  test.each([
    ['does not read it', template(exit), /no place/],
    ['has an instruction that is only the second half of a load', template(load(NUMBER, 0, 25), exit), /no place/],
    ['reads something beside it', template(load(VALUE, 25), load(VALUE, 25, 4), exit), /beside/],
  ])('a program that %s is refused', (_, given, message) => {
    expect(() => patchCookieMap(given, 77)).toThrow(
      expect.objectContaining({ code: 'VERIFIER', message: expect.stringMatching(message) as string }),
    );
  });
});
