import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { LineSplitter } from '../../../src/kubernetes/lines.ts';

const line = fc.string({ unit: 'binary' }).map((text) => text.replaceAll('\n', '') + 'ß€😀');

describe('a stream of lines', () => {
  it('is the same however it was cut, also within a character', () => {
    fc.assert(
      fc.property(fc.array(line), fc.array(fc.nat({ max: 40 })), (lines, cuts) => {
        const bytes = Buffer.from(lines.map((text) => `${text}\n`).join(''));
        const got: string[] = [];
        const splitter = new LineSplitter((text) => got.push(text), 1 << 20);
        let from = 0;
        for (const cut of cuts) {
          splitter.push(bytes.subarray(from, from + cut));
          from = Math.min(bytes.length, from + cut);
        }
        splitter.push(bytes.subarray(from));
        expect(got).toEqual(lines.map((text) => Buffer.from(text).toString()));
      }),
    );
  });

  it('takes no more memory than its limit for a line', () => {
    const splitter = new LineSplitter(() => expect.unreachable(), 10);
    splitter.push(Buffer.from('12345'));
    expect(() => splitter.push(Buffer.from('678901'))).toThrow('more than 10 bytes');
  });
});
