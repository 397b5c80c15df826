/** Certificate requests of all sorts, for tests of whoever signs. */
import { createPublicKey, webcrypto } from 'node:crypto';
import { generateKeys, KEY_ALGORITHM, privateKeyPem, x509 } from '../../src/identity/x509.ts';

type KeyAlgorithm = webcrypto.EcKeyGenParams | webcrypto.RsaHashedKeyGenParams | webcrypto.Algorithm;

export const rsa = (modulusLength: number): webcrypto.RsaHashedKeyGenParams => ({
  name: 'RSASSA-PKCS1-v1_5',
  hash: 'SHA-256',
  publicExponent: new Uint8Array([1, 0, 1]),
  modulusLength,
});

export async function keysOf(algorithm: KeyAlgorithm): Promise<webcrypto.CryptoKeyPair> {
  return (await webcrypto.subtle.generateKey(algorithm, true, ['sign', 'verify'])) as webcrypto.CryptoKeyPair;
}

/** PKCS #10, PEM */
export async function requestOf(keys: webcrypto.CryptoKeyPair, extensions: x509.Extension[] = [], name = ''): Promise<string> {
  const request = await x509.Pkcs10CertificateRequestGenerator.create({ keys, name, signingAlgorithm: KEY_ALGORITHM, extensions });
  return request.toString('pem');
}

/** A fresh P-256 key and a request for it. */
export async function freshRequest(): Promise<{ csr: string; key: string; publicKey: string }> {
  const keys = await generateKeys();
  const spki = Buffer.from(await webcrypto.subtle.exportKey('spki', keys.publicKey));
  const publicKey = createPublicKey({ key: spki, format: 'der', type: 'spki' }).export({ type: 'spki', format: 'pem' });
  return { csr: await requestOf(keys), key: await privateKeyPem(keys.privateKey), publicKey: publicKey.toString() };
}
