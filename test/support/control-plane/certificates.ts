/** Roots and server certificates for tests: a root per test, leaves signed by it. */
import type { webcrypto } from 'node:crypto';
import { isIP } from 'node:net';
import { generateKeys, KEY_ALGORITHM, privateKeyPem, x509 } from '../../../src/identity/x509.ts';

const HOUR_MS = 3600_000;

export class TestRoot {
  readonly pem: string;
  readonly #certificate: x509.X509Certificate;
  readonly #keys: webcrypto.CryptoKeyPair;

  private constructor(certificate: x509.X509Certificate, keys: webcrypto.CryptoKeyPair) {
    this.#certificate = certificate;
    this.#keys = keys;
    this.pem = `${certificate.toString('pem')}\n`;
  }

  static async create(name = 'CN=test root'): Promise<TestRoot> {
    const keys = await generateKeys();
    const certificate = await x509.X509CertificateGenerator.createSelfSigned({
      name,
      keys,
      ...validity(),
      signingAlgorithm: KEY_ALGORITHM,
      extensions: [
        new x509.BasicConstraintsExtension(true, undefined, true),
        new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign, true),
        await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
      ],
    });
    return new TestRoot(certificate, keys);
  }

  /** @param names DNS names and addresses that the server answers to */
  async server(names: readonly string[]): Promise<{ certificate: string; key: string }> {
    const keys = await generateKeys();
    const leaf = await x509.X509CertificateGenerator.create({
      subject: 'CN=test server',
      issuer: this.#certificate.subjectName,
      publicKey: keys.publicKey,
      signingKey: this.#keys.privateKey,
      signingAlgorithm: KEY_ALGORITHM,
      ...validity(),
      extensions: [
        new x509.SubjectAlternativeNameExtension(names.map((value) => ({ type: isIP(value) === 0 ? 'dns' : 'ip', value }))),
        new x509.ExtendedKeyUsageExtension([x509.ExtendedKeyUsage.serverAuth]),
      ],
    });
    return { certificate: leaf.toString('pem'), key: await privateKeyPem(keys.privateKey) };
  }
}

function validity(): { notBefore: Date; notAfter: Date } {
  return { notBefore: new Date(Date.now() - HOUR_MS), notAfter: new Date(Date.now() + HOUR_MS) };
}
