/** Address text of Kubernetes objects into the bytes of xDS. */
import { parseAddress } from '../../maps/address.ts';
import { canonicalIp, familyOf } from '../../state/address.ts';

export interface Address {
  /** canonical */
  ip: string;
  /** 4 or 16, network order */
  bytes: Uint8Array;
}

/** Text that is no address is left out and named in `faults`; a repeated address counts once. */
export function addressesOf(texts: readonly string[], faults: string[]): Address[] {
  const found = new Map<string, Address>();
  for (const text of texts) {
    const ip = canonicalIp(text);
    if (ip === undefined) faults.push(`${JSON.stringify(text)} is no IP address`);
    else if (!found.has(ip)) found.set(ip, { ip, bytes: addressBytes(ip) });
  }
  return [...found.values()];
}

function addressBytes(ip: string): Uint8Array {
  const bytes = parseAddress(ip);
  return familyOf(ip) === 4 ? bytes.slice(12) : bytes;
}
