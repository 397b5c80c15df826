import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  decodeHello,
  decodeRequest,
  decodeResponse,
  encodeAck,
  encodeHello,
  encodeRequest,
  MAX_PACKET,
  type ZdsRequest,
} from '../../../src/zds/messages.ts';

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
const short = fc.string({ minLength: 1, maxLength: 60, unit: 'grapheme-ascii' });
const request: fc.Arbitrary<ZdsRequest> = fc.oneof(
  fc.record({
    kind: fc.constant('add' as const),
    uid: short,
    workload: fc.record({ name: short, namespace: short, serviceAccount: short }),
  }),
  fc.record({ kind: fc.constant('keep' as const), uid: short }),
  fc.record({ kind: fc.constant('del' as const), uid: short }),
  fc.record({ kind: fc.constant('snapshotSent' as const) }),
);

describe('ZDS messages', () => {
  it('has the bytes of the wire', () => {
    expect(hex(encodeHello())).toBe('0801');
    expect(hex(encodeRequest({ kind: 'snapshotSent' }))).toBe('1a00');
    expect(hex(encodeAck())).toBe('0a00');
    expect(hex(encodeRequest({ kind: 'del', uid: 'ab' }))).toBe('120412026162');
    expect(hex(encodeRequest({ kind: 'keep', uid: 'ab' }))).toBe('2a040a026162');
    expect(hex(encodeRequest({ kind: 'add', uid: 'u', workload: { name: 'n', namespace: 's', serviceAccount: 'a' } }))).toBe(
      '0a0e0a017512090a016e1201731a0161',
    );
  });

  it('reads back what it wrote', () => {
    fc.assert(
      fc.property(request, (r) => {
        expect(decodeRequest(encodeRequest(r))).toEqual(r);
      }),
    );
    expect(decodeHello(encodeHello())).toBe(1);
    expect(decodeResponse(encodeAck('no listener'))).toEqual({ error: 'no listener' });
  });

  it('cuts an ack to the packet, never inside a character', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary', minLength: 300, maxLength: 2000 }), (text) => {
        const packet = encodeAck(text);
        expect(packet.length).toBeLessThanOrEqual(MAX_PACKET);
        const { error } = decodeResponse(packet);
        expect(Buffer.from(text).toString().startsWith(error)).toBe(true);
      }),
      { numRuns: 20 },
    );
    expect(encodeAck('é'.repeat(2000)).length).toBeGreaterThan(MAX_PACKET - 2);
  });

  it('never throws anything but ZDS_PROTOCOL at garbage', () => {
    for (const decode of [decodeHello, decodeRequest, decodeResponse]) {
      fc.assert(
        fc.property(fc.uint8Array({ maxLength: 64 }), (bytes) => {
          try {
            decode(bytes);
          } catch (error) {
            expect(error).toMatchObject({ code: 'ZDS_PROTOCOL' });
          }
        }),
      );
      expect(() => decode(new Uint8Array())).toThrow('empty');
    }
    expect(() => decodeRequest(Buffer.from('0a030a0175', 'hex'))).toThrow('workload_info missing');
    expect(() => decodeRequest(Buffer.from('1200', 'hex'))).toThrow('uid missing');
  });

  it('refuses a request that no packet holds', () => {
    expect(() => encodeRequest({ kind: 'del', uid: 'x'.repeat(2000) })).toThrow('a packet holds');
  });
});
