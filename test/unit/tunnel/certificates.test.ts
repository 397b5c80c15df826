import { X509Certificate } from 'node:crypto';
import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { CulvertError } from '../../../src/base/errors.ts';
import { createLogger } from '../../../src/base/log.ts';
import { Certificates } from '../../../src/tunnel/certificates.ts';
import { parseIdentity, requireIdentity, requireTrustDomain } from '../../../src/identity/spiffe.ts';
import type { CertificateIssuer, SigningRequest } from '../../../src/tunnel/issuer.ts';
import { createLocalCa, LocalCaIssuer } from '../../../src/tunnel/local-ca.ts';
import { renewalDelay, retryDelay } from '../../../src/tunnel/renewal.ts';
import { UrgentFirst } from '../../../src/tunnel/urgent-first.ts';
import { obtainCertificate } from '../../../src/tunnel/workload-certificate.ts';
import { collectingLogger } from '../../support/control-plane/logs.ts';

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
    await vi.waitFor(() => expect(certificates.list()).toMatchObject([{ state: 'Available' }]));
    use.release();
    expect(certificates.list()).toEqual([]);
    certificates.close();
  });

  it('renews at about half of the life', async () => {
    const counting = new Counting();
    const certificates = new Certificates(counting, log, 2000);
    certificates.retain(WEB);
    const first = await certificates.get(WEB);
    await vi.waitFor(async () => expect((await certificates.get(WEB)).serial).not.toBe(first.serial));
    // Dated back by two minutes, it would be renewed at once if its beginning counted.
    expect(counting.count).toBe(2);
    expect(first.notAfter.getTime()).toBeGreaterThan(Date.now());
    certificates.close();
  });

  it('keeps what it has while the CA is away, and says so once, and once that it is back', async () => {
    const counting = new Counting();
    const { log: collecting, lines } = collectingLogger();
    const certificates = new Certificates(counting, collecting, 6000);
    const identities = ['a', 'b', 'c'].map((name) => `spiffe://cluster.local/ns/shop/sa/${name}`);
    for (const identity of identities) certificates.retain(identity);
    const first = await Promise.all(identities.map((identity) => certificates.get(identity)));
    counting.fails = true;
    await vi.waitFor(() => expect(certificates.list().every(({ failure }) => failure !== undefined)).toBe(true));
    expect(certificates.list()).toMatchObject([{ state: 'Available', failure: { reason: 'CA is away' } }, {}, {}]);
    expect(await Promise.all(identities.map((identity) => certificates.get(identity)))).toEqual(first);
    counting.fails = false;
    await vi.waitFor(() => expect(certificates.list().every(({ failure }) => failure === undefined)).toBe(true));
    const said = (message: string): number => lines.filter(({ msg }) => String(msg).startsWith(message)).length;
    expect([said('no certificates from the CA'), said('CA gives certificates again'), said('certificate expired')]).toEqual([1, 1, 0]);
    certificates.close();
  });

  it('never uses an expired one, and says that connections fail', async () => {
    const counting = new Counting();
    const { log: collecting, lines } = collectingLogger();
    const certificates = new Certificates(counting, collecting, 1500);
    certificates.retain(WEB);
    await certificates.get(WEB);
    counting.fails = true;
    await vi.waitFor(() => expect(lines.filter(({ msg }) => String(msg).startsWith('certificate expired'))).toHaveLength(1));
    expect(certificates.list()).toMatchObject([{ state: 'Unavailable', certificate: undefined, failure: { reason: 'CA is away' } }]);
    await expect(certificates.get(WEB)).rejects.toThrow();
    certificates.close();
  });

  it('names each refusal once, which is no outage', async () => {
    let count = 0;
    const refusing: CertificateIssuer = {
      sign: () =>
        Promise.reject(new CulvertError('CERTIFICATE', `not yours ${++count > 2 ? 'still' : ''}`, undefined, { retryable: false })),
    };
    const { log: collecting, lines } = collectingLogger();
    const certificates = new Certificates(refusing, collecting, 2000);
    certificates.retain(WEB);
    await vi.waitFor(() => expect(count).toBeGreaterThan(4));
    const warnings = lines.filter(({ level }) => level === 40).map(({ msg, error }) => `${String(msg)}: ${String(error)}`);
    expect(warnings).toEqual(['certificate refused: not yours ', 'certificate refused: not yours still']);
    certificates.close();
  });

  it('says nothing of a failure that came when nobody needed the certificate any more', async () => {
    const { log: collecting, lines } = collectingLogger();
    const { promise, reject } = Promise.withResolvers<never>();
    let asked = 0;
    const certificates = new Certificates({ sign: () => (asked++, promise) }, collecting);
    const use = certificates.retain(WEB);
    const waiting = certificates.get(WEB);
    await vi.waitFor(() => expect(asked).toBe(1));
    use.release();
    reject(new CulvertError('CERTIFICATE', 'not yours', undefined, { retryable: false }));
    await expect(waiting).rejects.toThrow('not yours');
    expect(lines).toEqual([]);
    expect(certificates.list()).toEqual([]);
  });

  it('asks first for what a connection waits for, then for new workloads, eight at once, and not for those that are gone', async () => {
    const asked: string[] = [];
    const waiting: (() => void)[] = [];
    const slow: CertificateIssuer = {
      sign: async (request) => {
        asked.push(request.identity.replace(/.*\//, ''));
        await new Promise<void>((resolve) => waiting.push(resolve));
        return issuer.sign(request);
      },
    };
    const certificates = new Certificates(slow, log);
    const identity = (name: string): string => `spiffe://cluster.local/ns/shop/sa/${name}`;
    for (let index = 0; index < 8; index++) certificates.retain(identity(`busy${String(index)}`));
    const gone = certificates.retain(identity('gone'));
    certificates.retain(identity('new'));
    certificates.retain(identity('dialled'));
    const dialled = certificates.get(identity('dialled'));
    const forgotten = certificates.get(identity('gone'));
    await vi.waitFor(() => expect(waiting).toHaveLength(8));
    gone.release();
    await expect(forgotten).rejects.toThrow('no workload needs it any more');
    for (let done = 0; done < 10; done++) {
      await vi.waitFor(() => expect(waiting).not.toHaveLength(0));
      waiting.shift()?.();
    }
    await dialled;
    expect(asked).toHaveLength(10);
    expect(asked.slice(8)).toEqual(['dialled', 'new']);
    certificates.close();
  });
});

describe('urgency', () => {
  it('decides what is next; it is raised and never lowered', async () => {
    const begun: string[] = [];
    const ends: (() => void)[] = [];
    const urgent = new UrgentFirst<{ name: string }>(1, async ({ name }) => {
      begun.push(name);
      await new Promise<void>((resolve) => ends.push(resolve));
    });
    const items = Object.fromEntries(['first', 'refresh', 'prefetch', 'raised', 'connection', 'dropped'].map((name) => [name, { name }]));
    urgent.add(items['first']!, 'refresh');
    urgent.add(items['refresh']!, 'refresh');
    urgent.add(items['raised']!, 'refresh');
    urgent.add(items['prefetch']!, 'prefetch');
    urgent.add(items['connection']!, 'connection');
    urgent.add(items['dropped']!, 'connection');
    urgent.add(items['raised']!, 'connection');
    urgent.add(items['connection']!, 'refresh');
    urgent.add(items['first']!, 'connection'); // runs
    expect(urgent.drop(items['dropped']!)).toBe(true);
    expect(urgent.drop(items['first']!)).toBe(false);
    for (let done = 0; done < 5; done++) {
      await vi.waitFor(() => expect(ends).toHaveLength(1));
      ends.shift()?.();
    }
    await vi.waitFor(() => expect(begun).toEqual(['first', 'connection', 'raised', 'prefetch', 'refresh']));
  });

  it('has delays that fit into any life', () => {
    for (const life of [2000, 60_000, 24 * 3600_000]) {
      expect(Math.abs(renewalDelay(life) / life - 0.5)).toBeLessThanOrEqual(0.05);
      for (let failures = 1; failures < 30; failures++) {
        expect(retryDelay(failures, life, life / 2)).toBeLessThanOrEqual(Math.min(life / 16, 180_000));
        expect(retryDelay(failures, life, 1000)).toBeLessThanOrEqual(600);
        expect(retryDelay(failures, life, 0)).toBeGreaterThanOrEqual(Math.min(life / 25, 800));
      }
    }
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
