import { describe, expect, test } from 'vitest';
import { tcpFlows, tlsRecords } from '../../../src/lab/demo/pcap.ts';

const header = Buffer.alloc(24);
header.writeUInt32LE(0xa1b2c3d4, 0);

function packet(frame: Buffer): Buffer {
  const lead = Buffer.alloc(16);
  lead.writeUInt32LE(frame.length, 8);
  lead.writeUInt32LE(frame.length, 12);
  return Buffer.concat([lead, frame]);
}

function tcp(sport: number, dport: number, seq: number, payload: Buffer): Buffer {
  const head = Buffer.alloc(20);
  head.writeUInt16BE(sport, 0);
  head.writeUInt16BE(dport, 2);
  head.writeUInt32BE(seq >>> 0, 4);
  head.writeUInt8(5 << 4, 12);
  return Buffer.concat([head, payload]);
}

/** With Ethernet's padding behind it. */
function ipv4(segment: Buffer): Buffer {
  const ip = Buffer.alloc(20);
  ip.writeUInt8(0x45, 0);
  ip.writeUInt16BE(20 + segment.length, 2);
  ip.writeUInt8(6, 9);
  Buffer.from([10, 0, 0, 1, 10, 0, 0, 2]).copy(ip, 12);
  return ethernet(0x0800, Buffer.concat([ip, segment, Buffer.alloc(6)]));
}

function ipv6(segment: Buffer): Buffer {
  const ip = Buffer.alloc(40);
  ip.writeUInt16BE(segment.length, 4);
  ip.writeUInt8(6, 6);
  return ethernet(0x86dd, Buffer.concat([ip, segment]));
}

function ethernet(type: number, payload: Buffer): Buffer {
  const lead = Buffer.alloc(14);
  lead.writeUInt16BE(type, 12);
  return Buffer.concat([lead, payload]);
}

const record = (type: number, length: number): Buffer => Buffer.concat([Buffer.from([type, 3, 3, 0, length]), Buffer.alloc(length, 0x61)]);

describe('capture', () => {
  test('bytes come in order, without repeats, also where the sequence wraps', () => {
    const start = 0xffffffff - 3;
    const frames = [
      [0, 'abc'],
      [6, 'ghi'],
      [3, 'def'],
      [3, 'def'],
      [4, 'efgh'],
    ].map(([offset, text]) => packet(ipv4(tcp(1, 2, start + Number(offset), Buffer.from(String(text))))));
    const [flow] = tcpFlows(Buffer.concat([header, ...frames]));
    expect(flow).toMatchObject({ src: '10.0.0.1:1', dst: '10.0.0.2:2' });
    expect(flow?.bytes.toString()).toBe('abcdefghi');
  });

  test('TLS records are counted over packet borders, in IPv6 too', () => {
    const stream = Buffer.concat([record(22, 30), record(23, 50), record(23, 10)]);
    const frames = [packet(ipv6(tcp(5, 15008, 100, stream.subarray(0, 33)))), packet(ipv6(tcp(5, 15008, 133, stream.subarray(33))))];
    const [flow] = tcpFlows(Buffer.concat([header, ...frames]));
    expect(flow?.dst).toMatch(/:15008$/);
    expect(flow && tlsRecords(flow)).toEqual(new Map([[22, 1], [23, 2]])); // prettier-ignore
  });

  test('plaintext is no TLS', () => {
    const [flow] = tcpFlows(Buffer.concat([header, packet(ipv4(tcp(1, 2, 7, Buffer.from('GET / HTTP/1.1\r\n'))))]));
    expect(flow && tlsRecords(flow)).toBeUndefined();
  });

  test('what is no capture is said to be none', () => {
    expect(() => tcpFlows(Buffer.from('hello'))).toThrow(/not a pcap/);
  });
});
