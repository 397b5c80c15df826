/** A certificate that may sign others, with its key: a root of ours, or an intermediate that an operator made with other tools. */
import { createPrivateKey, X509Certificate, type KeyObject, type webcrypto } from 'node:crypto';
import { x509 } from './x509.ts';

const KEY_CERT_SIGN_OID = '2.5.29.15';

export interface Signer {
  certificate: X509Certificate;
  /** its subject, byte for byte: the issuer of what it signs */
  name: x509.Name;
  key: webcrypto.CryptoKey;
  /** authority key identifier of what it signs */
  keyIdentifier: x509.AuthorityKeyIdentifierExtension;
}

/**
 * @param certificatePem one CA certificate (the first, if there are more)
 * @param keyPem PKCS #8, SEC 1 or PKCS #1; P-256, P-384, P-521 or RSA
 * @throws with the reason; a certificate that has expired, or is not valid yet, is one
 */
export async function readSigner(certificatePem: string, keyPem: string, now = Date.now()): Promise<Signer> {
  return makeSigner(readCaCertificate(certificatePem, now), readSigningKey(keyPem));
}

/** @throws when it is no certificate of a CA, or not valid now */
export function readCaCertificate(pem: string, now = Date.now()): X509Certificate {
  const certificate = new X509Certificate(pem);
  if (!certificate.ca) throw new Error('it is no CA certificate');
  const usages = new x509.X509Certificate(certificate.raw).getExtension<x509.KeyUsagesExtension>(KEY_CERT_SIGN_OID);
  if (usages !== null && (usages.usages & x509.KeyUsageFlags.keyCertSign) === 0)
    throw new Error('its key usage does not allow to sign certificates');
  if (now >= certificate.validToDate.getTime()) throw new Error(`it has expired at ${certificate.validToDate.toISOString()}`);
  if (now < certificate.validFromDate.getTime()) throw new Error(`it is not valid before ${certificate.validFromDate.toISOString()}`);
  return certificate;
}

/** @throws when it is no key, or of a kind that certificates are not signed with */
export function readSigningKey(pem: string): KeyObject {
  const key = createPrivateKey(pem);
  algorithmOf(key);
  return key;
}

/** @throws when the key is not the certificate's */
export async function makeSigner(certificate: X509Certificate, key: KeyObject): Promise<Signer> {
  if (!certificate.checkPrivateKey(key)) throw new Error('it is not the key of the CA certificate');
  const parsed = new x509.X509Certificate(certificate.raw);
  const own = parsed.getExtension(x509.SubjectKeyIdentifierExtension);
  return {
    certificate,
    name: parsed.subjectName,
    key: key.toCryptoKey(algorithmOf(key), false, ['sign']),
    // Other tools derive it in other ways; what counts is what the CA's own certificate says.
    keyIdentifier:
      own === null
        ? await x509.AuthorityKeyIdentifierExtension.create(parsed.publicKey)
        : new x509.AuthorityKeyIdentifierExtension(own.keyId),
  };
}

type SigningAlgorithm = webcrypto.EcKeyImportParams | webcrypto.RsaHashedImportParams;

function algorithmOf(key: KeyObject): SigningAlgorithm {
  if (key.asymmetricKeyType === 'rsa') return { name: 'RSASSA-PKCS1-v1_5', hash: 'SHA-256' };
  const curve = key.asymmetricKeyType === 'ec' ? key.asymmetricKeyDetails?.namedCurve : undefined;
  const namedCurve = { prime256v1: 'P-256', secp384r1: 'P-384', secp521r1: 'P-521' }[curve ?? ''];
  if (namedCurve === undefined)
    throw new Error(`it is a key of kind ${curve ?? String(key.asymmetricKeyType)}; P-256, P-384, P-521 and RSA sign`);
  return { name: 'ECDSA', namedCurve };
}

/** The digest that fits the signing key. */
export function digestOf(signer: Signer): 'SHA-256' | 'SHA-384' | 'SHA-512' {
  const { namedCurve } = signer.key.algorithm as webcrypto.EcKeyAlgorithm;
  return namedCurve === 'P-384' ? 'SHA-384' : namedCurve === 'P-521' ? 'SHA-512' : 'SHA-256';
}
