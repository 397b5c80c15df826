/** Reads a capture file (pcap, Ethernet) far enough to prove what went over the wire: TCP bytes per direction, TLS records. */

export interface Flow {
  /** "10.0.0.1:4711" */
  src: string;
  dst: string;
  /** the bytes in order; gaps are closed, repeats dropped */
  bytes: Buffer;
}

interface Segment {
  flow: string;
  src: string;
  dst: string;
  seq: number;
  payload: Buffer;
}

const MAGIC_MICRO = 0xa1b2c3d4;
const MAGIC_NANO = 0xa1b23c4d;
const ETHERNET = 14;

/** @throws Error when it is no pcap file of this byte order */
export function tcpFlows(file: Buffer): Flow[] {
  const segments = Map.groupBy(packets(file).flatMap(segmentOf), (segment) => segment.flow);
  return [...segments.values()].map(inOrder);
}

/** TLS records of a flow by content type (20 to 23); undefined when its bytes are not TLS from the beginning. */
export function tlsRecords(flow: Flow): Map<number, number> | undefined {
  const counts = new Map<number, number>();
  for (let at = 0; at + 5 <= flow.bytes.length; at += 5 + flow.bytes.readUInt16BE(at + 3)) {
    const type = flow.bytes.readUInt8(at);
    if (type < 20 || type > 23 || flow.bytes.readUInt8(at + 1) !== 3) return undefined;
    counts.set(type, (counts.get(type) ?? 0) + 1);
  }
  return counts.size === 0 ? undefined : counts;
}

function packets(file: Buffer): Buffer[] {
  const magic = file.length < 24 ? 0 : file.readUInt32LE(0);
  if (magic !== MAGIC_MICRO && magic !== MAGIC_NANO) throw new Error(`read capture: not a pcap file (${file.length} bytes)`);
  const found: Buffer[] = [];
  for (let at = 24; at + 16 <= file.length;) {
    const length = file.readUInt32LE(at + 8);
    found.push(file.subarray(at + 16, at + 16 + length));
    at += 16 + length;
  }
  return found;
}

/** None for what is not TCP over IPv4 or IPv6 with a payload. */
function segmentOf(frame: Buffer): Segment[] {
  if (frame.length < ETHERNET + 40) return [];
  const type = frame.readUInt16BE(12);
  const packet = frame.subarray(ETHERNET);
  if (type === 0x0800 && packet.readUInt8(9) === 6) {
    const header = (packet.readUInt8(0) & 15) * 4;
    const tcp = packet.subarray(header, packet.readUInt16BE(2));
    return segment([...packet.subarray(12, 16)].join('.'), [...packet.subarray(16, 20)].join('.'), tcp);
  }
  if (type === 0x86dd && packet.readUInt8(6) === 6) {
    const tcp = packet.subarray(40, 40 + packet.readUInt16BE(4));
    return segment(`[${hex(packet.subarray(8, 24))}]`, `[${hex(packet.subarray(24, 40))}]`, tcp);
  }
  return [];
}

function segment(source: string, destination: string, tcp: Buffer): Segment[] {
  if (tcp.length < 20) return [];
  const payload = tcp.subarray((tcp.readUInt8(12) >> 4) * 4);
  if (payload.length === 0) return [];
  const src = `${source}:${tcp.readUInt16BE(0)}`;
  const dst = `${destination}:${tcp.readUInt16BE(2)}`;
  return [{ flow: `${src} ${dst}`, src, dst, seq: tcp.readUInt32BE(4), payload }];
}

function inOrder(segments: Segment[]): Flow {
  const [first] = segments as [Segment, ...Segment[]];
  const relative = (seq: number): number => (seq - first.seq) | 0; // sequence numbers wrap
  const sorted = segments.toSorted((a, b) => relative(a.seq) - relative(b.seq));
  const parts: Buffer[] = [];
  let next = relative(sorted[0]?.seq ?? 0);
  for (const { seq, payload } of sorted) {
    const start = relative(seq);
    const fresh = payload.subarray(Math.min(payload.length, Math.max(0, next - start)));
    parts.push(fresh);
    next = Math.max(next, start + payload.length);
  }
  return { src: first.src, dst: first.dst, bytes: Buffer.concat(parts) };
}

function hex(bytes: Buffer): string {
  return (bytes.toString('hex').match(/.{4}/g) ?? []).join(':');
}
