/** The texts that rules are made of, as tunnels match them: names with a wildcard, principals, accounts, ports, addresses. */
import { create } from '@bufbuild/protobuf';
import { EmptySchema } from '@bufbuild/protobuf/wkt';
import {
  AddressSchema,
  ServiceAccountMatchSchema,
  StringMatchSchema,
  type Address,
  type ServiceAccountMatch,
  type StringMatch,
} from '../../proto/security_pb.js';
import { parseAddress } from '../../maps/address.ts';
import { canonicalIp, familyOf } from '../../state/address.ts';
import type { Values } from './reading.ts';

/** In a policy it means the mesh's own trust domain, whatever that is called. */
const LOCAL_TRUST_DOMAIN = 'cluster.local';
const SPIFFE = 'spiffe://';
/** Bits by which an IPv4-mapped prefix is longer than the IPv4 one. */
const MAPPED_BITS = 96;

export const NAMES: Values<StringMatch> = { parse: stringMatch, problem: 'must be a name, "*" only as its first or last character' };

/** Any text that L4 does not look at. */
export const TEXTS: Values<string> = { parse: (text) => (text === '' ? undefined : text), problem: 'must be a text that is not empty' };

export const PORTS: Values<number> = { parse: port, problem: 'must be a port from 1 to 65535 as text' };

export const ADDRESSES: Values<Address> = { parse: address, problem: 'must be an IP address or a CIDR' };

export function principals(trustDomain: string): Values<StringMatch> {
  return {
    parse: (text) => (text.startsWith(SPIFFE) ? undefined : stringMatch(inMesh(text, trustDomain))),
    problem: 'must be "<trust domain>/ns/<namespace>/sa/<account>" without "spiffe://", "*" only as its first or last character',
  };
}

/** @param namespace of an account that is named alone */
export function serviceAccounts(namespace: string): Values<ServiceAccountMatch> {
  return {
    parse: (text) => accountMatch(text, namespace),
    problem: 'must be "<account>" or "<namespace>/<account>", without wildcard',
  };
}

function inMesh(principal: string, trustDomain: string): string {
  const start = `${LOCAL_TRUST_DOMAIN}/`;
  return principal.startsWith(start) ? `${trustDomain}/${principal.slice(start.length)}` : principal;
}

function stringMatch(text: string): StringMatch | undefined {
  if (text === '') return undefined;
  if (text === '*') return create(StringMatchSchema, { matchType: { case: 'presence', value: create(EmptySchema) } });
  const wildcard = text.indexOf('*');
  if (wildcard === -1) return create(StringMatchSchema, { matchType: { case: 'exact', value: text } });
  if (text.includes('*', wildcard + 1)) return undefined;
  if (wildcard === 0) return create(StringMatchSchema, { matchType: { case: 'suffix', value: text.slice(1) } });
  if (wildcard === text.length - 1) return create(StringMatchSchema, { matchType: { case: 'prefix', value: text.slice(0, -1) } });
  return undefined;
}

function accountMatch(text: string, own: string): ServiceAccountMatch | undefined {
  const parts = text.split('/');
  if (parts.length > 2 || parts.includes('') || text.includes('*')) return undefined;
  const [first = '', second] = parts;
  return create(
    ServiceAccountMatchSchema,
    second === undefined ? { namespace: own, serviceAccount: first } : { namespace: first, serviceAccount: second },
  );
}

/** Also the keys of portLevelMtls. */
export function port(text: string): number | undefined {
  const number = /^\d+$/.test(text) ? Number(text) : 0;
  return number >= 1 && number <= 65535 ? number : undefined;
}

/** Bits after the prefix stay as they are: tunnels look at the prefix only. */
function address(text: string): Address | undefined {
  const slash = text.indexOf('/');
  const literal = slash === -1 ? text : text.slice(0, slash);
  const ip = canonicalIp(literal);
  if (ip === undefined) return undefined;
  const v4 = familyOf(ip) === 4;
  const most = v4 ? 32 : 128;
  const cut = v4 && familyOf(literal) === 6 ? MAPPED_BITS : 0;
  const length = slash === -1 ? most : prefixLength(text.slice(slash + 1)) - cut;
  if (!(length >= 0 && length <= most)) return undefined;
  const bytes = parseAddress(ip);
  return create(AddressSchema, { address: v4 ? bytes.slice(12) : bytes, length });
}

/** @returns NaN for what is no length */
function prefixLength(text: string): number {
  return /^(0|[1-9]\d{0,2})$/.test(text) ? Number(text) : NaN;
}
