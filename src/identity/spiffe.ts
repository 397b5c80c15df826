/** SPIFFE identities: who a certificate speaks for. */
import type { X509Certificate } from 'node:crypto';
import { CulvertError } from '../base/errors.ts';

const SPIFFE = /^spiffe:\/\/([a-z0-9._-]+)\/ns\/([^/]+)\/sa\/([^/]+)$/;

/** Undefined when the text is no identity of a workload (spiffe://domain/ns/…/sa/…). */
export function parseIdentity(identity: string): { trustDomain: string; namespace: string; serviceAccount: string } | undefined {
  const match = SPIFFE.exec(identity);
  if (match === null) return undefined;
  const [, trustDomain = '', namespace = '', serviceAccount = ''] = match;
  return { trustDomain, namespace, serviceAccount };
}

/**
 * The one URI name of a certificate. A second URI makes the certificate ambiguous and is refused, as SPIFFE demands. Node quotes a
 * name with a comma or a quote in it, so splitting at ", " cannot be led astray by a crafted name.
 * @throws PEER_IDENTITY
 */
export function identityOf(certificate: X509Certificate): string {
  const uris = (certificate.subjectAltName ?? '').split(', ').filter((name) => name.startsWith('URI:'));
  const [uri] = uris;
  if (uri === undefined || uris.length !== 1) {
    throw new CulvertError('PEER_IDENTITY', `read peer identity: certificate has ${String(uris.length)} URI names, one is needed`);
  }
  const identity = uri.slice('URI:'.length);
  if (parseIdentity(identity) === undefined)
    throw new CulvertError('PEER_IDENTITY', `read peer identity: ${identity} is no workload's SPIFFE identity`);
  return identity;
}

/** Server's rule: any workload of our own trust domain may knock. @returns its identity @throws PEER_IDENTITY */
export function requireTrustDomain(certificate: X509Certificate, trustDomain: string): string {
  const identity = identityOf(certificate);
  const domain = parseIdentity(identity)?.trustDomain;
  if (domain !== trustDomain)
    throw new CulvertError('PEER_IDENTITY', `accept peer ${identity}: trust domain is ${String(domain)}, ours is ${trustDomain}`);
  return identity;
}

/** Client's rule: the server must be who the route says. @returns its identity @throws PEER_IDENTITY */
export function requireIdentity(certificate: X509Certificate, expected: readonly string[]): string {
  const identity = identityOf(certificate);
  if (!expected.includes(identity)) throw new CulvertError('PEER_IDENTITY', `accept peer ${identity}: expected ${expected.join(' or ')}`);
  return identity;
}
