/**
 * A CA that is two PEM files: `ca.crt` and `ca.key` (P-256, PKCS #8) in one directory. For labs and tests, where the signing key
 * may lie beside the tunnel.
 */
import { X509Certificate } from 'node:crypto';
import { chmod, mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { CulvertError } from '../base/errors.ts';
import type { CertificateIssuer, SigningAnswer, SigningRequest } from './issuer.ts';
import { generateKeys, importPrivateKey, KEY_ALGORITHM, privateKeyPem, x509 } from '../identity/x509.ts';

const YEAR_MS = 365 * 24 * 3600_000;
/** Clocks of peers may be behind ours. */
const BACKDATE_MS = 2 * 60_000;

export interface LocalCaPaths {
  certificate: string;
  key: string;
}

export function localCaPaths(dir: string): LocalCaPaths {
  return { certificate: join(dir, 'ca.crt'), key: join(dir, 'ca.key') };
}

/** Writes a new self-signed CA into `dir` (created if missing), replacing one that is there. The key is 0600. */
export async function createLocalCa(dir: string, options: { name?: string; lifetimeMs?: number } = {}): Promise<LocalCaPaths> {
  const keys = await generateKeys();
  const now = Date.now();
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    name: `CN=${options.name ?? 'Culvert local CA'}`,
    keys,
    notBefore: new Date(now - BACKDATE_MS),
    notAfter: new Date(now + (options.lifetimeMs ?? 10 * YEAR_MS)),
    signingAlgorithm: KEY_ALGORITHM,
    extensions: [
      new x509.BasicConstraintsExtension(true, undefined, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
      await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  });
  const paths = localCaPaths(dir);
  await mkdir(dir, { recursive: true });
  await writeFile(paths.key, await privateKeyPem(keys.privateKey), { mode: 0o600 });
  await chmod(paths.key, 0o600); // the mode above does not apply to a file that was there
  await writeFile(paths.certificate, certificate.toString('pem'));
  return paths;
}

/** Signs with the CA of a directory; the files are read for each request, so a replaced CA is taken up at the next refresh. */
export class LocalCaIssuer implements CertificateIssuer {
  readonly #dir: string;

  constructor(dir: string) {
    this.#dir = dir;
  }

  async sign(request: SigningRequest): Promise<SigningAnswer> {
    try {
      return await this.#sign(request);
    } catch (error) {
      throw new CulvertError('CERTIFICATE', `sign certificate of ${request.identity} with the CA in ${this.#dir}`, error);
    }
  }

  async #sign({ identity, csr, lifetimeMs }: SigningRequest): Promise<SigningAnswer> {
    const paths = localCaPaths(this.#dir);
    const [caPem, keyPem] = await Promise.all([readFile(paths.certificate, 'utf8'), readFile(paths.key, 'utf8')]);
    const ca = new x509.X509Certificate(caPem);
    const caKey = await importPrivateKey(keyPem);
    if (!new X509Certificate(caPem).ca) throw new Error('ca.crt is no CA certificate');
    const request = new x509.Pkcs10CertificateRequest(csr);
    if (!(await request.verify())) throw new Error('signature of the request does not verify');
    const now = Date.now();
    const leaf = await x509.X509CertificateGenerator.create({
      subject: '',
      issuer: ca.subjectName,
      publicKey: request.publicKey,
      signingKey: caKey,
      signingAlgorithm: KEY_ALGORITHM,
      notBefore: new Date(now - BACKDATE_MS),
      notAfter: new Date(Math.min(now + lifetimeMs, ca.notAfter.getTime())),
      extensions: [
        new x509.SubjectAlternativeNameExtension([{ type: 'url', value: identity }], true), // critical: the subject is empty
        new x509.BasicConstraintsExtension(false, undefined, true),
        new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature | x509.KeyUsageFlags.keyEncipherment, true),
        new x509.ExtendedKeyUsageExtension([x509.ExtendedKeyUsage.serverAuth, x509.ExtendedKeyUsage.clientAuth]),
        await x509.AuthorityKeyIdentifierExtension.create(ca.publicKey),
      ],
    });
    return { chain: [leaf.toString('pem')], roots: [caPem] };
  }
}
