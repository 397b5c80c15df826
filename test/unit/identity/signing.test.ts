import { createPrivateKey, X509Certificate } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { keyOfRequest } from '../../../src/identity/csr.ts';
import { signLeaf, signWorkload } from '../../../src/identity/leaf.ts';
import { isSelfSigned, pemBlocks, readCertificates } from '../../../src/identity/pem.ts';
import { createRoot } from '../../../src/identity/root.ts';
import { readSigner, type Signer } from '../../../src/identity/signer.ts';
import { generateKeys, KEY_ALGORITHM, privateKeyPem, x509 } from '../../../src/identity/x509.ts';
import { freshRequest, keysOf, requestOf, rsa } from '../../support/csr.ts';

const WEB = 'spiffe://cluster.local/ns/shop/sa/web';
const DAY = 24 * 3600_000;

const root = await createRoot({ name: 'test root' });
const signer = await readSigner(root.certificate, root.key);

describe('a workload certificate', () => {
  it('is for the key of the request and the identity given, and for nothing that the request asked for', async () => {
    const keys = await generateKeys();
    const csr = await requestOf(
      keys,
      [
        new x509.SubjectAlternativeNameExtension([
          { type: 'url', value: 'spiffe://cluster.local/ns/kube-system/sa/admin' },
          { type: 'dns', value: 'istiod.istio-system.svc' },
        ]),
        new x509.BasicConstraintsExtension(true, undefined, true),
        new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign, true),
      ],
      'CN=admin',
    );
    const leaf = new X509Certificate(await signWorkload(signer, { csr, identity: WEB, lifetimeMs: DAY }));
    expect(leaf.subjectAltName).toBe(`URI:${WEB}`);
    expect(new x509.X509Certificate(leaf.raw).subject).toBe('');
    expect(leaf.ca).toBe(false);
    expect(leaf.keyUsage).toEqual(['1.3.6.1.5.5.7.3.1', '1.3.6.1.5.5.7.3.2']);
    expect(leaf.checkPrivateKey(createPrivateKey(await privateKeyPem(keys.privateKey)))).toBe(true);
    expect(leaf.checkIssued(signer.certificate)).toBe(true);
    expect(leaf.verify(signer.certificate.publicKey)).toBe(true);
    const names = new x509.X509Certificate(leaf.raw).getExtension(x509.SubjectAlternativeNameExtension);
    expect(names?.critical).toBe(true);
    const usages = new x509.X509Certificate(leaf.raw).getExtension(x509.KeyUsagesExtension);
    expect(usages?.usages).toBe(x509.KeyUsageFlags.digitalSignature | x509.KeyUsageFlags.keyEncipherment);
  });

  it('has a positive serial of 16 bytes that never repeats', async () => {
    const { csr } = await freshRequest();
    const leaves = await Promise.all(Array.from({ length: 20 }, () => signWorkload(signer, { csr, identity: WEB, lifetimeMs: DAY })));
    const serials = leaves.map((pem) => new X509Certificate(pem).serialNumber);
    expect(new Set(serials).size).toBe(20);
    for (const serial of serials) expect(serial).toMatch(/^[4-7][0-9A-F]{31}$/);
  });

  it('begins two minutes ago and never outlives its issuer', async () => {
    const now = Date.parse('2030-01-01T00:00:00Z');
    const short = await createRoot({ name: 'short', lifetimeMs: 3600_000, now });
    const by = await readSigner(short.certificate, short.key, now);
    const keys = await generateKeys();
    const sign = async (lifetimeMs: number, at: number) =>
      new X509Certificate(await signLeaf(by, { publicKey: keys.publicKey, names: [{ type: 'url', value: WEB }], lifetimeMs, now: at }));
    expect((await sign(60_000, now)).validFromDate.toISOString()).toBe('2029-12-31T23:58:00.000Z');
    expect((await sign(60_000, now)).validToDate.toISOString()).toBe('2030-01-01T00:01:00.000Z');
    expect((await sign(DAY, now)).validToDate.toISOString()).toBe('2030-01-01T01:00:00.000Z');
    await expect(sign(DAY, now + 3600_000)).rejects.toThrow('has expired at 2030-01-01T01:00:00.000Z');
  });
});

describe('keys of requests', () => {
  it.each([
    ['P-256', { name: 'ECDSA', namedCurve: 'P-256' }],
    ['P-384', { name: 'ECDSA', namedCurve: 'P-384' }],
    ['RSA 2048', rsa(2048)],
  ])('%s is taken', async (_name, algorithm) => {
    const keys = await keysOf(algorithm);
    const csr = (
      await x509.Pkcs10CertificateRequestGenerator.create({ keys, signingAlgorithm: { ...algorithm, hash: 'SHA-256' } })
    ).toString('pem');
    const leaf = new X509Certificate(await signWorkload(signer, { csr, identity: WEB, lifetimeMs: DAY }));
    expect(leaf.checkPrivateKey(createPrivateKey(await privateKeyPem(keys.privateKey)))).toBe(true);
  });

  it.each([
    ['P-521', { name: 'ECDSA', namedCurve: 'P-521' }, 'is ec secp521r1; P-256, P-384 and RSA'],
    ['RSA 1024', rsa(1024), 'is rsa 1024 bit'],
    ['Ed25519', { name: 'Ed25519' }, 'is ed25519;'],
  ])('%s is refused', async (_name, algorithm, why) => {
    const keys = await keysOf(algorithm);
    const csr = (
      await x509.Pkcs10CertificateRequestGenerator.create({ keys, signingAlgorithm: { ...algorithm, hash: 'SHA-256' } })
    ).toString('pem');
    await expect(keyOfRequest(csr)).rejects.toThrow(why);
  });

  it('a request signed by another key is refused', async () => {
    const mine = await generateKeys();
    const other = await generateKeys();
    const csr = await requestOf({ publicKey: mine.publicKey, privateKey: other.privateKey });
    await expect(keyOfRequest(csr)).rejects.toThrow('signature of the request does not verify');
  });

  it.each([
    ['nothing', '', '0 PEM certificate requests'],
    ['a certificate', root.certificate, '0 PEM certificate requests'],
    ['no DER', '-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----', 'cannot be read'],
    ['too much', 'x'.repeat(20_000), 'characters'],
  ])('%s is refused', async (_name, csr, why) => {
    await expect(keyOfRequest(csr)).rejects.toThrow(why);
  });

  it('two requests in one are refused', async () => {
    const { csr } = await freshRequest();
    await expect(keyOfRequest(`${csr}\n${csr}`)).rejects.toThrow('2 PEM certificate requests');
  });

  it('one byte changed anywhere, or any bytes at all, end in a refusal or in the key itself, never in anything else', async () => {
    const { csr } = await freshRequest();
    const der = Buffer.from(csr.replace(/-----[^-]+-----/g, ''), 'base64');
    const pem = (bytes: Buffer) => `-----BEGIN CERTIFICATE REQUEST-----\n${bytes.toString('base64')}\n-----END CERTIFICATE REQUEST-----\n`;
    const key = Buffer.from((await keyOfRequest(csr)).rawData);
    await fc.assert(
      fc.asyncProperty(fc.nat(der.length - 1), fc.integer({ min: 1, max: 255 }), async (at, flip) => {
        const bytes = Buffer.from(der);
        bytes[at] = (bytes[at] ?? 0) ^ flip;
        const read = await keyOfRequest(pem(bytes)).catch((error: unknown) => error);
        if (!(read instanceof Error)) expect(Buffer.from((read as x509.PublicKey).rawData)).toEqual(key);
      }),
      { numRuns: 300 },
    );
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ maxLength: 400 }), async (bytes) => {
        await expect(keyOfRequest(pem(Buffer.from(bytes)))).rejects.toBeInstanceOf(Error);
      }),
    );
  });
});

describe('signers', () => {
  it('an intermediate of other tools: its name and its key identifier are taken as they stand in it', async () => {
    const keys = await keysOf(rsa(2048));
    const own = await x509.X509CertificateGenerator.create({
      serialNumber: '01',
      // not the string type that this library would choose
      subject: new x509.Name([{ O: [{ printableString: 'Shop' }] }, { CN: [{ printableString: 'Shop CA' }] }]),
      issuer: signer.name,
      publicKey: keys.publicKey,
      signingKey: signer.key,
      signingAlgorithm: KEY_ALGORITHM,
      notAfter: new Date(Date.now() + DAY),
      extensions: [
        new x509.BasicConstraintsExtension(true, 0, true),
        new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign, true),
        new x509.SubjectKeyIdentifierExtension('0102030405'),
      ],
    });
    const pkcs1 = createPrivateKey(await privateKeyPem(keys.privateKey))
      .export({ type: 'pkcs1', format: 'pem' })
      .toString();
    const intermediate = await readSigner(own.toString('pem'), pkcs1);
    const { csr } = await freshRequest();
    const leaf = new X509Certificate(await signWorkload(intermediate, { csr, identity: WEB, lifetimeMs: 7 * DAY }));
    expect(leaf.checkIssued(intermediate.certificate)).toBe(true);
    expect(leaf.verify(intermediate.certificate.publicKey)).toBe(true);
    expect(new x509.X509Certificate(leaf.raw).getExtension(x509.AuthorityKeyIdentifierExtension)?.keyId).toBe('0102030405');
    expect(leaf.validToDate.getTime()).toBe(intermediate.certificate.validToDate.getTime());
  });

  it.each(['P-384', 'P-521'])('a %s root signs', async (namedCurve) => {
    const keys = await keysOf({ name: 'ECDSA', namedCurve });
    const made = await x509.X509CertificateGenerator.createSelfSigned({
      name: 'CN=big',
      keys,
      notAfter: new Date(Date.now() + DAY),
      extensions: [new x509.BasicConstraintsExtension(true, undefined, true)],
    });
    const sec1 = createPrivateKey(await privateKeyPem(keys.privateKey))
      .export({ type: 'sec1', format: 'pem' })
      .toString();
    const big: Signer = await readSigner(made.toString('pem'), sec1);
    const leaf = new X509Certificate(await signWorkload(big, { csr: (await freshRequest()).csr, identity: WEB, lifetimeMs: DAY }));
    expect(leaf.verify(big.certificate.publicKey)).toBe(true);
  });

  it('what cannot sign is refused with the reason', async () => {
    const other = await createRoot({ name: 'other' });
    const old = await createRoot({ name: 'old', lifetimeMs: DAY, now: Date.now() - 2 * DAY });
    const early = await createRoot({ name: 'early', now: Date.now() + DAY });
    const keys = await generateKeys();
    const leaf = await signLeaf(signer, { publicKey: keys.publicKey, names: [{ type: 'dns', value: 'x' }], lifetimeMs: DAY });
    const ed = await privateKeyPem((await keysOf({ name: 'Ed25519' })).privateKey);
    await expect(readSigner(root.certificate, other.key)).rejects.toThrow('not the key of the CA certificate');
    await expect(readSigner(old.certificate, old.key)).rejects.toThrow('it has expired at');
    await expect(readSigner(early.certificate, early.key)).rejects.toThrow('it is not valid before');
    await expect(readSigner(leaf, root.key)).rejects.toThrow('it is no CA certificate');
    await expect(readSigner(root.certificate, ed)).rejects.toThrow('a key of kind ed25519');
    await expect(readSigner('garbage', root.key)).rejects.toThrow();
    await expect(readSigner(root.certificate, 'garbage')).rejects.toThrow();
  });
});

describe('PEM', () => {
  it('finds the certificates of a bundle with text around and between them', async () => {
    const other = await createRoot({ name: 'other' });
    const bundle = `# roots\r\n${root.certificate.replaceAll('\n', '\r\n')}\nsubject=CN = other\n${other.certificate}${root.key}`;
    const found = readCertificates(bundle);
    expect(found.map((certificate) => certificate.subject)).toEqual(['CN=test root', 'CN=other']);
    expect(found.every(isSelfSigned)).toBe(true);
    expect(pemBlocks(bundle, 'CERTIFICATE')).toEqual([root.certificate, other.certificate]);
  });

  it('names the certificate that cannot be read', () => {
    const bad = '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n';
    expect(() => readCertificates(root.certificate + bad)).toThrow('certificate 2 of 2 cannot be read');
    expect(() => readCertificates('')).toThrow('no PEM certificate');
    fc.assert(
      fc.property(fc.string(), (text) => {
        expect(() => readCertificates(text)).toThrow();
      }),
    );
  });
});
