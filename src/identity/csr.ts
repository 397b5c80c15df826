/**
 * A certificate request, read for its key alone. Names, CA flags and usages that it asks for are ignored: who the certificate speaks
 * for is decided by who asked.
 */
import { createPublicKey } from 'node:crypto';
import { pemBlocks } from './pem.ts';
import { x509 } from './x509.ts';

/** A request with an 8192 bit RSA key has about 3,000 characters. */
const MAX_CHARACTERS = 16 * 1024;
const CURVES: readonly (string | undefined)[] = ['prime256v1', 'secp384r1'];
const RSA_BITS = { min: 2048, max: 8192 };

/**
 * Keys are ECDSA on P-256 or P-384, or RSA of 2048 to 8192 bits. Ed25519 is refused: not every TLS library in a mesh verifies it.
 * @param pem PKCS #10
 * @throws with the reason: no request, a key that is not taken, a signature that is not by this key
 */
export async function keyOfRequest(pem: string): Promise<x509.PublicKey> {
  if (pem.length > MAX_CHARACTERS) throw new Error(`request has ${pem.length} characters, ${MAX_CHARACTERS} are allowed`);
  const blocks = [...pemBlocks(pem, 'CERTIFICATE REQUEST'), ...pemBlocks(pem, 'NEW CERTIFICATE REQUEST')];
  const [block] = blocks;
  if (block === undefined || blocks.length > 1) throw new Error(`request holds ${blocks.length} PEM certificate requests, one is needed`);
  const request = readRequest(block);
  checkKey(request.publicKey);
  if (!(await verifies(request))) throw new Error('signature of the request does not verify');
  return request.publicKey;
}

function readRequest(block: string): x509.Pkcs10CertificateRequest {
  try {
    return new x509.Pkcs10CertificateRequest(block);
  } catch (error) {
    throw new Error('request cannot be read', { cause: error });
  }
}

function checkKey(key: x509.PublicKey): void {
  let read;
  try {
    read = createPublicKey({ key: Buffer.from(key.rawData), format: 'der', type: 'spki' });
  } catch (error) {
    throw new Error('key of the request cannot be read', { cause: error });
  }
  const { namedCurve, modulusLength = 0 } = read.asymmetricKeyDetails ?? {};
  if (read.asymmetricKeyType === 'ec' && CURVES.includes(namedCurve)) return;
  if (read.asymmetricKeyType === 'rsa' && modulusLength >= RSA_BITS.min && modulusLength <= RSA_BITS.max) return;
  const found = `${String(read.asymmetricKeyType)} ${namedCurve ?? (modulusLength === 0 ? '' : `${modulusLength} bit`)}`.trim();
  throw new Error(`key of the request is ${found}; P-256, P-384 and RSA of ${RSA_BITS.min} to ${RSA_BITS.max} bit are taken`);
}

/** The library throws for a signature whose shape does not fit the key. */
async function verifies(request: x509.Pkcs10CertificateRequest): Promise<boolean> {
  try {
    return await request.verify();
  } catch (error) {
    throw new Error('signature of the request cannot be checked', { cause: error });
  }
}
