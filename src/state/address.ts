/** IP addresses and "ip:port" as the mesh spells them: canonical text, IPv4-mapped IPv6 always as IPv4. */
import { isIP, SocketAddress as NodeSocketAddress } from 'node:net';

export interface SocketAddress {
  /** canonical: lower case, compressed, never IPv4-mapped */
  ip: string;
  /** 1–65535 */
  port: number;
}

const MAPPED = '::ffff:';

/** IPv4 out of its mapped form. Enough for addresses that the kernel spelled; people's text goes through canonicalIp. */
export function unmapped(ip: string): string {
  return ip.startsWith(MAPPED) && ip.includes('.') ? ip.slice(MAPPED.length) : ip;
}

/** One spelling for every address, so that strings can be map keys. Undefined for what is no address, or has a zone. */
export function canonicalIp(text: string): string | undefined {
  const family = isIP(text);
  if (family === 4) return text;
  if (family !== 6 || text.includes('%')) return undefined;
  return unmapped(new NodeSocketAddress({ address: text, family: 'ipv6' }).address);
}

export function familyOf(ip: string): 4 | 6 {
  return ip.includes(':') ? 6 : 4;
}

export function isLoopback(ip: string): boolean {
  return ip === '::1' || (familyOf(ip) === 4 && ip.startsWith('127.'));
}

/** "10.0.0.1:80", "[fd00::1]:80" */
export function formatAddress(address: SocketAddress): string {
  return address.ip.includes(':') ? `[${address.ip}]:${String(address.port)}` : `${address.ip}:${String(address.port)}`;
}

const AUTHORITY = /^(?:\[([0-9a-fA-F:.]{2,45})\]|([0-9.]{7,15})):([0-9]{1,5})$/;

/** The `:authority` of a CONNECT: an address and a port, nothing else. Undefined for host names, missing or impossible ports. */
export function parseAuthority(text: string): SocketAddress | undefined {
  const match = AUTHORITY.exec(text);
  if (match === null) return undefined;
  const bracketed = match[1];
  const literal = bracketed ?? match[2] ?? '';
  if ((bracketed === undefined) !== (isIP(literal) === 4)) return undefined;
  const ip = canonicalIp(literal);
  const port = Number(match[3]);
  return ip === undefined || port < 1 || port > 65535 ? undefined : { ip, port };
}
