/** Signs leaf certificates: of workloads, and of the control plane's own server. */
import { randomBytes, type webcrypto } from 'node:crypto';
import { digestOf, type Signer } from './signer.ts';
import { keyOfRequest } from './csr.ts';
import { x509 } from './x509.ts';

/** Clocks of peers may be behind ours; as much as Istio allows. */
export const BACKDATE_MS = 2 * 60_000;

/** Of every leaf: no CA, both roles of TLS. */
const USES: readonly x509.Extension[] = [
  new x509.BasicConstraintsExtension(false, undefined, true),
  new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature | x509.KeyUsageFlags.keyEncipherment, true),
  new x509.ExtendedKeyUsageExtension([x509.ExtendedKeyUsage.serverAuth, x509.ExtendedKeyUsage.clientAuth]),
];

export interface LeafRequest {
  publicKey: x509.PublicKey | webcrypto.CryptoKey;
  names: x509.JsonGeneralNames;
  lifetimeMs: number;
  /** ms since epoch; default now */
  now?: number;
}

/**
 * A workload's certificate: its identity is the only name. Of the request only the key is used.
 * @param csr PKCS #10, PEM
 * @returns PEM
 * @throws with the reason when the request is bad or the signer has expired
 */
export async function signWorkload(signer: Signer, request: { csr: string; identity: string; lifetimeMs: number }): Promise<string> {
  const publicKey = await keyOfRequest(request.csr);
  return signLeaf(signer, { publicKey, names: [{ type: 'url', value: request.identity }], lifetimeMs: request.lifetimeMs });
}

/**
 * Both roles of TLS, no subject, so that the names are critical. It never outlives its issuer.
 * @returns PEM
 * @throws when the signer has expired
 */
export async function signLeaf(signer: Signer, { publicKey, names, lifetimeMs, now = Date.now() }: LeafRequest): Promise<string> {
  const end = signer.certificate.validToDate.getTime();
  if (now >= end) throw new Error(`signing certificate has expired at ${signer.certificate.validToDate.toISOString()}`);
  const leaf = await x509.X509CertificateGenerator.create({
    serialNumber: serial(),
    subject: '',
    issuer: signer.name,
    publicKey,
    signingKey: signer.key,
    signingAlgorithm: { hash: digestOf(signer) },
    notBefore: new Date(now - BACKDATE_MS),
    notAfter: new Date(Math.min(now + lifetimeMs, end)),
    extensions: [new x509.SubjectAlternativeNameExtension(names, true), ...USES, signer.keyIdentifier],
  });
  return `${leaf.toString('pem').trim()}\n`;
}

/** 16 bytes of chance, read as a positive number (hexadecimal). */
export function serial(): string {
  const bytes = randomBytes(16);
  bytes[0] = ((bytes[0] ?? 0) & 0x7f) | 0x40; // positive, and no leading zero to be trimmed
  return bytes.toString('hex');
}
