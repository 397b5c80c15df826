/** One workload certificate: a fresh key, a request for it, and the issuer's answer verified before it is used. */
import { createPrivateKey, X509Certificate } from 'node:crypto';
import { createSecureContext, type SecureContext, type SecureContextOptions } from 'node:tls';
import { CulvertError } from '../base/errors.ts';
import { identityOf } from '../identity/spiffe.ts';
import type { CertificateIssuer, SigningAnswer } from './issuer.ts';
import { generateKeys, KEY_ALGORITHM, privateKeyPem, x509 } from '../identity/x509.ts';

export interface WorkloadCertificate {
  identity: string;
  serial: string;
  notBefore: Date;
  notAfter: Date;
  /** PEM, leaf first */
  chain: string[];
  /** PEM */
  roots: string[];
  /** for `tls.Server.setSecureContext`, which builds its own */
  options: SecureContextOptions;
  /** for clients, built once */
  context: SecureContext;
}

/** TLS 1.3 with the two AES-GCM suites, as every ztunnel speaks. */
const PROTOCOL: SecureContextOptions = {
  minVersion: 'TLSv1.3',
  maxVersion: 'TLSv1.3',
  ciphers: 'TLS_AES_256_GCM_SHA384:TLS_AES_128_GCM_SHA256',
};

/** Longer than any that is in use; each one costs signature checks, ours and every peer's. */
const MAX_CHAIN = 10;

/** The key is born here and never leaves this process. @throws CERTIFICATE; retryable when the issuer gave no answer */
export async function obtainCertificate(issuer: CertificateIssuer, identity: string, lifetimeMs: number): Promise<WorkloadCertificate> {
  const keys = await generateKeys();
  const request = await x509.Pkcs10CertificateRequestGenerator.create({
    keys,
    signingAlgorithm: KEY_ALGORITHM,
    extensions: [new x509.SubjectAlternativeNameExtension([{ type: 'url', value: identity }], true)],
  });
  const answer = await issuer.sign({ identity, csr: request.toString('pem'), lifetimeMs });
  const key = await privateKeyPem(keys.privateKey);
  try {
    const leaf = verifyAnswer(answer, identity, key);
    const options = { ...PROTOCOL, key, cert: answer.chain.join('\n'), ca: answer.roots };
    return {
      identity,
      serial: leaf.serialNumber,
      notBefore: leaf.validFromDate,
      notAfter: leaf.validToDate,
      chain: answer.chain,
      roots: answer.roots,
      options,
      context: createSecureContext(options),
    };
  } catch (error) {
    throw new CulvertError('CERTIFICATE', `use the answer to our certificate request for ${identity}`, error, { retryable: false });
  }
}

/** @returns the leaf @throws with the reason */
function verifyAnswer(answer: SigningAnswer, identity: string, key: string): X509Certificate {
  const chain = answer.chain.map((pem) => new X509Certificate(pem));
  const roots = answer.roots.map((pem) => new X509Certificate(pem));
  const [leaf] = chain;
  if (leaf === undefined) throw new Error('it holds no certificate');
  if (identityOf(leaf) !== identity) throw new Error(`it is for ${identityOf(leaf)}`);
  if (!leaf.checkPrivateKey(createPrivateKey(key))) throw new Error('it is not for our key');
  if (!isValidNow(leaf)) throw new Error(`it is valid from ${leaf.validFrom} to ${leaf.validTo} only`);
  if (chain.length > MAX_CHAIN) throw new Error(`its chain has ${chain.length} certificates, ${MAX_CHAIN} are allowed`);
  chain.forEach((certificate, index) => {
    const next = chain[index + 1];
    const issuers = (next === undefined ? roots : [next, ...roots]).filter((by) => by.ca && isValidNow(by));
    const signed = issuers.some((by) => certificate.checkIssued(by) && certificate.verify(by.publicKey));
    if (!signed) throw new Error(`certificate ${index + 1} of its chain is signed by nobody in it`);
  });
  return leaf;
}

function isValidNow({ validFromDate, validToDate }: X509Certificate): boolean {
  const now = Date.now();
  return validFromDate.getTime() <= now && now <= validToDate.getTime();
}
