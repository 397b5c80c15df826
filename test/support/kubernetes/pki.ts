/** Certificates and keys of a test's API server, written as files, and kubeconfigs that use them. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { webcrypto } from 'node:crypto';
import { generateKeys, KEY_ALGORITHM, privateKeyPem, x509 } from '../../../src/identity/x509.ts';

const DAY_MS = 24 * 3600_000;

/** paths */
export interface KeyPair {
  certificate: string;
  key: string;
}

export interface Pki {
  /** paths */
  ca: string;
  serverCertificate: string;
  serverKey: string;
  /** signs the tokens of service accounts; PKCS #8, PEM */
  tokenKey: string;
  tokenPublicKey: string;
  /** Paths of a serving certificate. @param ips DNS names of the server as well, in `names` */
  serving(name: string, ips: readonly string[], names?: readonly string[]): Promise<KeyPair>;
  /** Paths of a client certificate for this user. */
  client(name: string, subject: string): Promise<KeyPair>;
  /** Writes a kubeconfig with a client certificate for this user. @returns its path */
  kubeconfig(name: string, subject: string, server: string): Promise<string>;
}

/** @param addresses of the server; 127.0.0.1 and localhost are good too, for a proxy before it @param names DNS names of it */
export async function createPki(dir: string, addresses: readonly string[], names: readonly string[] = []): Promise<Pki> {
  const caKeys = await generateKeys();
  const validity = { notBefore: new Date(Date.now() - DAY_MS), notAfter: new Date(Date.now() + 365 * DAY_MS) };
  const ca = await x509.X509CertificateGenerator.createSelfSigned({
    ...validity,
    name: 'CN=test cluster',
    keys: caKeys,
    signingAlgorithm: KEY_ALGORITHM,
    extensions: [
      new x509.BasicConstraintsExtension(true, undefined, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
    ],
  });
  const write = (name: string, text: string): string => {
    const path = join(dir, name);
    writeFileSync(path, text, { mode: 0o600 });
    return path;
  };
  const issue = async (subject: string, extensions: x509.Extension[]): Promise<KeyPair> => {
    const keys: webcrypto.CryptoKeyPair = await generateKeys();
    const leaf = await x509.X509CertificateGenerator.create({
      ...validity,
      subject,
      issuer: ca.subjectName,
      publicKey: keys.publicKey,
      signingKey: caKeys.privateKey,
      signingAlgorithm: KEY_ALGORITHM,
      extensions,
    });
    return { certificate: leaf.toString('pem'), key: await privateKeyPem(keys.privateKey) };
  };

  const caPem = ca.toString('pem');
  const issueServing = (name: string, ips: readonly string[], dns: readonly string[]): Promise<KeyPair> =>
    issue(`CN=${name}`, [
      new x509.ExtendedKeyUsageExtension([x509.ExtendedKeyUsage.serverAuth]),
      new x509.SubjectAlternativeNameExtension([
        ...ips.map((value) => ({ type: 'ip' as const, value })),
        ...dns.map((value) => ({ type: 'dns' as const, value })),
      ]),
    ]);
  const issueClient = (subject: string): Promise<KeyPair> =>
    issue(subject, [new x509.ExtendedKeyUsageExtension([x509.ExtendedKeyUsage.clientAuth])]);
  const save = (name: string, { certificate, key }: KeyPair): KeyPair => ({
    certificate: write(`${name}.crt`, certificate),
    key: write(`${name}.key`, key),
  });
  const server = save('server', await issueServing('kube-apiserver', [...addresses, '127.0.0.1'], [...names, 'localhost']));
  const tokenKeys = await generateKeys();
  const tokenPublicKey = x509.PemConverter.encode(await webcrypto.subtle.exportKey('spki', tokenKeys.publicKey), 'PUBLIC KEY');
  const base64 = (text: string): string => Buffer.from(text).toString('base64');
  return {
    ca: write('ca.crt', caPem),
    serverCertificate: server.certificate,
    serverKey: server.key,
    tokenKey: write('token.key', await privateKeyPem(tokenKeys.privateKey)),
    tokenPublicKey: write('token.pub', tokenPublicKey),
    serving: async (name, ips, dns = []) => save(name, await issueServing(name, ips, dns)),
    client: async (name, subject) => save(name, await issueClient(subject)),
    async kubeconfig(name, subject, url) {
      const { certificate, key } = await issueClient(subject);
      const config = {
        apiVersion: 'v1',
        kind: 'Config',
        'current-context': name,
        contexts: [{ name, context: { cluster: 'test', user: name } }],
        clusters: [{ name: 'test', cluster: { server: url, 'certificate-authority-data': base64(caPem) } }],
        users: [{ name, user: { 'client-certificate-data': base64(certificate), 'client-key-data': base64(key) } }],
      };
      return write(`${name}.kubeconfig`, JSON.stringify(config, undefined, 2)); // JSON is YAML
    },
  };
}
