/** New self-signed roots. */
import { BACKDATE_MS, serial } from './leaf.ts';
import { generateKeys, KEY_ALGORITHM, privateKeyPem, x509 } from './x509.ts';

/** Roots live for ten years unless told. */
export const ROOT_LIFETIME_MS = 10 * 365 * 24 * 3600_000;

export interface Root {
  /** PEM */
  certificate: string;
  /** PKCS #8, PEM */
  key: string;
}

/** P-256. @param options.name common name of its subject */
export async function createRoot(options: { name: string; lifetimeMs?: number; now?: number }): Promise<Root> {
  const { name, lifetimeMs = ROOT_LIFETIME_MS, now = Date.now() } = options;
  const keys = await generateKeys();
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    serialNumber: serial(),
    name: [{ CN: [name] }],
    keys,
    notBefore: new Date(now - BACKDATE_MS),
    notAfter: new Date(now + lifetimeMs),
    signingAlgorithm: KEY_ALGORITHM,
    extensions: [
      new x509.BasicConstraintsExtension(true, undefined, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
      await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  });
  return { certificate: `${certificate.toString('pem').trim()}\n`, key: `${(await privateKeyPem(keys.privateKey)).trim()}\n` };
}
