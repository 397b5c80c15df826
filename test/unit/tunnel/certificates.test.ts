import { X509Certificate } from 'node:crypto';
import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { createLogger } from '../../../src/base/log.ts';
import { Certificates } from '../../../src/tunnel/certificates.ts';
import { parseIdentity, requireIdentity, requireTrustDomain } from '../../../src/identity/spiffe.ts';
import type { CertificateIssuer, SigningRequest } from '../../../src/tunnel/issuer.ts';
import { createLocalCa, LocalCaIssuer } from '../../../src/tunnel/local-ca.ts';
import { obtainCertificate } from '../../../src/tunnel/workload-certificate.ts';

const WEB = 'spiffe://cluster.local/ns/shop/sa/web';
const dir = mkdtempSync(join(tmpdir(), 'cvt-tun-ca-'));
const issuer = new LocalCaIssuer(dir);
const log = createLogger('test', 'silent');

beforeAll(async () => {
  await createLocalCa(dir);
});
afterAll(() => {
  rmSync(dir, { recursive: true });
});
afterEach(() => {
  vi.useRealTimers();
});

class Counting implements CertificateIssuer {
  count = 0;
  fails = false;
  async sign(request: SigningRequest) {
    this.count++;
    if (this.fails) throw new Error('CA is away');
    return issuer.sign(request);
  }
}

describe('local CA', () => {
  it('signs for a day, for both roles, with the identity as the only name', async () => {
    const certificate = await obtainCertificate(issuer, WEB, 24 * 3600_000);
    const leaf = new X509Certificate(certificate.chain[0]!);
    expect(leaf.subjectAltName).toBe(`URI:${WEB}`);
    expect(leaf.keyUsage).toEqual(['1.3.6.1.5.5.7.3.1', '1.3.6.1.5.5.7.3.2']);
    expect(leaf.ca).toBe(false);
    const hours = (certificate.notAfter.getTime() - certificate.notBefore.getTime()) / 3600_000;
    expect(hours).toBeGreaterThan(24);
    expect(hours).toBeLessThan(24.1);
    expect(statSync(join(dir, 'ca.key')).mode & 0o777).toBe(0o600);
  });

  it('says what is wrong with its directory', async () => {
    await expect(new LocalCaIssuer('/nonexistent').sign({ identity: WEB, csr: '', lifetimeMs: 1 })).rejects.toMatchObject({
      code: 'CERTIFICATE',
      systemCode: 'ENOENT',
    });
  });
});

describe('answers of an issuer', () => {
  it.each([
    [
      'for somebody else',
      (request: SigningRequest) => issuer.sign({ ...request, identity: 'spiffe://cluster.local/ns/shop/sa/other' }),
      /it is for/,
    ],
    ['for another key', async () => ({ ...(await obtainCertificate(issuer, WEB, 60_000)) }), /not for our key/],
    ['of an unknown root', async (request: SigningRequest) => ({ ...(await issuer.sign(request)), roots: [] }), /signed by nobody/],
    ['without a certificate', () => Promise.resolve({ chain: [], roots: [] }), /no certificate/],
    ['that is no PEM', () => Promise.resolve({ chain: ['garbage'], roots: [] }), /use the answer/],
  ])('%s are refused', async (_name, sign, why) => {
    const error = await obtainCertificate({ sign }, WEB, 60_000).catch((reason: unknown) => reason);
    expect(error).toMatchObject({ code: 'CERTIFICATE' });
    expect(`${(error as Error).message} ${String((error as Error).cause)}`).toMatch(why);
  });
});

describe('certificates of a node', () => {
  it('fetches once for all who ask at once', async () => {
    const counting = new Counting();
    const certificates = new Certificates(counting, log);
    const got = await Promise.all(Array.from({ length: 20 }, () => certificates.get(WEB)));
    expect(counting.count).toBe(1);
    expect(new Set(got).size).toBe(1);
    certificates.close();
  });

  it('backs off after a failure, says Unavailable, and recovers by itself while somebody needs it', async () => {
    const counting = new Counting();
    counting.fails = true;
    const certificates = new Certificates(counting, log);
    const use = certificates.retain(WEB);
    await expect(certificates.get(WEB)).rejects.toThrow();
    await expect(certificates.get(WEB)).rejects.toThrow('waiting before another try');
    expect(counting.count).toBe(1);
    expect(certificates.list()).toMatchObject([{ identity: WEB, state: 'Unavailable' }]);
    counting.fails = false;
    await vi.waitFor(() => expect(certificates.list()).toMatchObject([{ state: 'Available' }]), 3000);
    use.release();
    expect(certificates.list()).toEqual([]);
    certificates.close();
  });

  it('renews at about half of the life', async () => {
    const counting = new Counting();
    const certificates = new Certificates(counting, log, 6000); // and two minutes of backdating: half is long over
    certificates.retain(WEB);
    const first = await certificates.get(WEB);
    await vi.waitFor(() => expect(counting.count).toBeGreaterThan(1), 3000);
    await vi.waitFor(async () => expect((await certificates.get(WEB)).serial).not.toBe(first.serial), 3000);
    certificates.close();
  });
});

describe('identities', () => {
  it('are of one shape', () => {
    expect(parseIdentity(WEB)).toEqual({ trustDomain: 'cluster.local', namespace: 'shop', serviceAccount: 'web' });
    for (const bad of [
      '',
      'spiffe://cluster.local',
      'https://cluster.local/ns/a/sa/b',
      'spiffe://cluster.local/ns/a/sa/b/c',
      'spiffe:///ns/a/sa/b',
    ])
      expect(parseIdentity(bad)).toBeUndefined();
  });

  it('are checked by each side in its way', async () => {
    const { chain } = await obtainCertificate(issuer, WEB, 60_000);
    const leaf = new X509Certificate(chain[0]!);
    expect(requireTrustDomain(leaf, 'cluster.local')).toBe(WEB);
    expect(() => requireTrustDomain(leaf, 'other.local')).toThrow('ours is other.local');
    expect(requireIdentity(leaf, ['x', WEB])).toBe(WEB);
    expect(() => requireIdentity(leaf, ['spiffe://cluster.local/ns/shop/sa/other'])).toThrow(
      'expected spiffe://cluster.local/ns/shop/sa/other',
    );
    expect(() => requireIdentity(new X509Certificate(chain[0]!), [])).toThrow();
  });
});
