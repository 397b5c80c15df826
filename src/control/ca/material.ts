/**
 * What certificates are signed with, and the roots that their peers trust: read from four PEM texts under the names that Istio uses in
 * its Secrets `istio-ca-secret` and `cacerts`.
 */
import type { KeyObject, X509Certificate } from 'node:crypto';
import { CulvertError, describe } from '../../base/errors.ts';
import { isSelfSigned, pemOf, readCertificates } from '../../identity/pem.ts';
import { makeSigner, readCaCertificate, readSigningKey, type Signer } from '../../identity/signer.ts';

/** The certificate that signs: a root, or an intermediate. */
export const CA_CERT = 'ca-cert.pem';
/** Its key. */
export const CA_KEY = 'ca-key.pem';
/** Certificates between it and the root; empty for a root. It may repeat the first and the last. */
export const CERT_CHAIN = 'cert-chain.pem';
/** All roots that peers trust; a root that signs trusts itself when this is empty. */
export const ROOT_CERT = 'root-cert.pem';

export type CaFiles = Readonly<Record<string, string | undefined>>;

export interface CaMaterial {
  signer: Signer;
  /** PEM, from the signing certificate up to the last one that is no root; empty when a root signs */
  intermediates: readonly string[];
  /** PEM, the roots in one text, those that the signing certificate leads to first */
  roots: string;
  /** ms since epoch: nothing that it signs is good for longer */
  notAfter: number;
}

const MAX_DEPTH = 8;

/**
 * @param where "secret culvert-system/cacerts", for the message
 * @throws CERTIFICATE naming every key that is wrong, and why
 */
export async function readMaterial(where: string, files: CaFiles, now = Date.now()): Promise<CaMaterial> {
  const faults: string[] = [];
  const part = <T>(key: string, read: (text: string) => T): T | undefined => {
    const text = files[key];
    try {
      if (text === undefined || text.trim() === '') throw new Error('it is missing');
      return read(text);
    } catch (error) {
      faults.push(`${key}: ${describe(error)}`);
      return undefined;
    }
  };
  const optional = (key: string): X509Certificate[] => ((files[key] ?? '').trim() === '' ? [] : (part(key, readCertificates) ?? []));

  const certificate = part(CA_CERT, (text) => readCaCertificate(text, now));
  const key = part(CA_KEY, readSigningKey);
  const between = optional(CERT_CHAIN);
  const given = optional(ROOT_CERT);
  const signer = certificate && key && (await signerOf(certificate, key, faults));
  if (certificate !== undefined && faults.length === 0) {
    const trusted = given.length > 0 ? given : [certificate].filter(isSelfSigned);
    const path = pathToRoot(certificate, between, trusted);
    if (path === undefined) {
      faults.push(
        trusted.length === 0
          ? `${ROOT_CERT}: it is missing, and ${CA_CERT} is no root`
          : `${CERT_CHAIN}: ${CA_CERT} leads to no root of ${ROOT_CERT} by it`,
      );
    } else if (signer !== undefined) {
      const late = path.certificates.find((one) => one.validToDate.getTime() <= now);
      if (late === undefined) return material(signer, path, trusted, now);
      faults.push(`${CERT_CHAIN}: ${late.subject.replaceAll('\n', ', ')} has expired at ${late.validToDate.toISOString()}`);
    }
  }
  throw new CulvertError('CERTIFICATE', `read CA from ${where}: ${faults.join('; ')}`);
}

async function signerOf(certificate: X509Certificate, key: KeyObject, faults: string[]): Promise<Signer | undefined> {
  try {
    return await makeSigner(certificate, key);
  } catch (error) {
    faults.push(`${CA_KEY}: ${describe(error)}`);
    return undefined;
  }
}

interface Path {
  /** from the signing certificate to the last below the root; the root itself when it signs */
  certificates: X509Certificate[];
  root: X509Certificate;
}

function pathToRoot(from: X509Certificate, between: X509Certificate[], roots: X509Certificate[]): Path | undefined {
  const issued = (by: X509Certificate, one: X509Certificate): boolean => one.checkIssued(by) && one.verify(by.publicKey);
  const certificates = [from];
  for (let last = from; certificates.length <= MAX_DEPTH;) {
    const current = last;
    const root = roots.find((one) => one.raw.equals(current.raw)) ?? roots.find((one) => issued(one, current));
    if (root !== undefined) return { certificates, root };
    const next = between.find((one) => issued(one, current) && !certificates.some((known) => known.raw.equals(one.raw)));
    if (next === undefined) return undefined;
    certificates.push(next);
    last = next;
  }
  return undefined;
}

function material(signer: Signer, { certificates, root }: Path, trusted: X509Certificate[], now: number): CaMaterial {
  // Anchors that have expired help nobody.
  const roots = [root, ...trusted].filter((one) => one.raw.equals(root.raw) || one.validToDate.getTime() > now);
  return {
    signer,
    intermediates: certificates.filter((one) => !one.raw.equals(root.raw)).map(pemOf),
    roots: [...new Set(roots.map(pemOf))].join(''),
    notAfter: Math.min(...[...certificates, root].map((one) => one.validToDate.getTime())),
  };
}
