/** Addresses as the datapath keeps them: 16 bytes in network order, IPv4 as ::ffff:a.b.c.d. */
import { isIPv4, isIPv6 } from 'node:net';

const GROUPS = 8;

/** @returns canonical text (RFC 5952); IPv4 for mapped addresses */
export function formatAddress(bytes: Uint8Array): string {
  const group = (i: number): number => ((bytes[2 * i] ?? 0) << 8) | (bytes[2 * i + 1] ?? 0);
  const groups = Array.from({ length: GROUPS }, (_, i) => group(i));
  if (groups.slice(0, 5).every((g) => g === 0) && groups[5] === 0xffff) return bytes.subarray(12, 16).join('.');
  const { start, length } = longestZeros(groups);
  const text = (from: number, to: number): string =>
    groups
      .slice(from, to)
      .map((g) => g.toString(16))
      .join(':');
  return length < 2 ? text(0, GROUPS) : `${text(0, start)}::${text(start + length, GROUPS)}`;
}

/** @throws RangeError for text that is no address, or one with a zone */
export function parseAddress(text: string): Uint8Array {
  if (isIPv4(text)) return Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, ...text.split('.').map(Number));
  if (!isIPv6(text) || text.includes('%')) throw new RangeError(`parse address ${JSON.stringify(text)}: not an IP address`);
  const [head = '', tail] = text.split('::');
  const front = groupsOf(head);
  const back = groupsOf(tail ?? '');
  const groups = [...front, ...new Array<number>(GROUPS - front.length - back.length).fill(0), ...back];
  return Uint8Array.from(groups.flatMap((g) => [g >> 8, g & 0xff]));
}

function groupsOf(part: string): number[] {
  return part
    .split(':')
    .filter((g) => g !== '')
    .flatMap((g) => {
      if (!g.includes('.')) return [parseInt(g, 16)];
      const [a = 0, b = 0, c = 0, d = 0] = g.split('.').map(Number);
      return [(a << 8) | b, (c << 8) | d];
    });
}

function longestZeros(groups: number[]): { start: number; length: number } {
  let best = { start: 0, length: 0 };
  for (let start = 0; start < groups.length; start++) {
    let end = start;
    while (groups[end] === 0) end++;
    if (end - start > best.length) best = { start, length: end - start };
  }
  return best;
}

/** "10.0.0.1:80", "[fd00::1]:80" */
export function formatEnd(address: string, port: number): string {
  return address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`;
}
