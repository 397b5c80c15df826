/** As much of DNS messages (RFC 1035) as asking for an address and answering with one takes. */

export type RecordType = 'A' | 'AAAA';

const TYPES: Record<RecordType, number> = { A: 1, AAAA: 28 };
const HEADER = 12;

export interface Question {
  id: number;
  name: string;
  /** undefined: some other type */
  type: RecordType | undefined;
  /** of the message: header and question */
  length: number;
}

export function encodeQuery(id: number, name: string, type: RecordType): Buffer {
  const header = Buffer.alloc(HEADER);
  header.writeUInt16BE(id, 0);
  header.writeUInt16BE(0x0100, 2); // recursion desired
  header.writeUInt16BE(1, 4);
  return Buffer.concat([header, ...labels(name), Buffer.from([0, 0, TYPES[type], 0, 1])]);
}

export function decodeQuestion(message: Buffer): Question {
  const { name, end } = readName(message, HEADER);
  const number = message.readUInt16BE(end);
  const type = (Object.keys(TYPES) as RecordType[]).find((key) => TYPES[key] === number);
  return { id: message.readUInt16BE(0), name, type, length: end + 4 };
}

/** No addresses: the name exists and has none of this type. */
export function encodeAnswer(query: Buffer, addresses: Buffer[], code = 0): Buffer {
  const { type, length } = decodeQuestion(query);
  const message = Buffer.from(query.subarray(0, length));
  message.writeUInt16BE(0x8580 | code, 2);
  message.writeUInt16BE(addresses.length, 6);
  message.writeUInt32BE(0, 8);
  const records = addresses.map((address) => {
    const fixed = Buffer.from([0xc0, HEADER, 0, TYPES[type ?? 'A'], 0, 1, 0, 0, 0, 60, 0, address.length]);
    return Buffer.concat([fixed, address]);
  });
  return Buffer.concat([message, ...records]);
}

/** @returns response code and the addresses, IPv6 in full */
export function decodeAnswer(message: Buffer): { id: number; code: number; addresses: string[] } {
  let at = HEADER;
  for (let i = message.readUInt16BE(4); i > 0; i -= 1) at = readName(message, at).end + 4;
  const addresses: string[] = [];
  for (let i = message.readUInt16BE(6); i > 0; i -= 1) {
    at = readName(message, at).end;
    const [type, length] = [message.readUInt16BE(at), message.readUInt16BE(at + 8)];
    const data = message.subarray(at + 10, at + 10 + length);
    if (type === TYPES.A) addresses.push([...data].join('.'));
    if (type === TYPES.AAAA)
      addresses.push((data.toString('hex').match(/.{4}/g) ?? []).map((part) => parseInt(part, 16).toString(16)).join(':'));
    at += 10 + length;
  }
  return { id: message.readUInt16BE(0), code: message.readUInt16BE(2) & 0xf, addresses };
}

function labels(name: string): Buffer[] {
  return name
    .replace(/\.$/, '')
    .split('.')
    .map((label) => Buffer.concat([Buffer.from([label.length]), Buffer.from(label)]));
}

function readName(message: Buffer, from: number): { name: string; end: number } {
  const parts: string[] = [];
  for (let at = from; ;) {
    const length = message.readUInt8(at);
    if (length === 0) return { name: parts.join('.'), end: at + 1 };
    if (length >= 0xc0) return { name: parts.join('.'), end: at + 2 }; // what it points to is of no interest here
    parts.push(message.toString('latin1', at + 1, at + 1 + length));
    at += 1 + length;
  }
}
