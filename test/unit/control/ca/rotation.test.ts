import { X509Certificate } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { readMaterial, CA_CERT, CA_KEY, CERT_CHAIN, ROOT_CERT } from '../../../../src/control/ca/material.ts';
import {
  datePhase,
  dropPrevious,
  filesOf,
  introduce,
  newRootSecret,
  NEXT_CERT,
  NEXT_KEY,
  PREVIOUS_ROOT,
  readCaSecret,
  rotationOf,
  SINCE_ANNOTATION,
  switchRoot,
} from '../../../../src/control/ca/root-secret.ts';
import { nextStep, type RotationState } from '../../../../src/control/ca/rotation.ts';
import { signLeaf } from '../../../../src/identity/leaf.ts';
import { createRoot } from '../../../../src/identity/root.ts';
import { readSigner } from '../../../../src/identity/signer.ts';
import { generateKeys, KEY_ALGORITHM, privateKeyPem, x509 } from '../../../../src/identity/x509.ts';
import type { KubeObject } from '../../../../src/kubernetes/api.ts';

const DAY = 24 * 3600_000;
const policy = { overlapMs: 2 * DAY, remaining: 0.2 };
const steady: RotationState = {
  phase: 'steady',
  signing: { notBefore: 0, notAfter: 100 * DAY },
  since: undefined,
  longestMs: 0,
  asked: undefined,
  done: undefined,
};

describe('the next step of a rotation', () => {
  it.each<[string, Partial<RotationState>, number, string, number?]>([
    ['nothing while the root is young', {}, 79 * DAY, 'none', 80 * DAY],
    ['a new root when a fifth of its life is left', {}, 80 * DAY, 'introduce'],
    ['a new root when asked', { asked: '1' }, DAY, 'introduce'],
    ['nothing when that was done', { asked: '1', done: '1' }, DAY, 'none', 80 * DAY],
    ['a new root when asked again', { asked: '2', done: '1' }, DAY, 'introduce'],
    ['nothing before everybody trusts the new root', { phase: 'introduced', since: 80 * DAY }, 82 * DAY - 1, 'none', 82 * DAY],
    ['sign with the new root', { phase: 'introduced', since: 80 * DAY }, 82 * DAY, 'switch'],
    [
      'nothing while certificates of a longer life may be in use',
      { phase: 'switched', since: 0, longestMs: 9 * DAY },
      9 * DAY - 1,
      'none',
      9 * DAY,
    ],
    ['sign with the new root in time before the old one ends', { phase: 'introduced', since: 99 * DAY }, 99.75 * DAY, 'switch'],
    ['not yet', { phase: 'introduced', since: 99 * DAY }, 99.74 * DAY, 'none', 99.75 * DAY],
    ['sign with the new root when the old one is over', { phase: 'introduced' }, 100 * DAY, 'switch'],
    ['begin the overlap anew when its start is unknown', { phase: 'introduced' }, DAY, 'date'],
    ['begin the overlap anew when its start is to come', { phase: 'switched', since: 5 * DAY }, DAY, 'date'],
    ['nothing while certificates of the old root may be in use', { phase: 'switched', since: 82 * DAY }, 84 * DAY - 1, 'none', 84 * DAY],
    ['drop the old root', { phase: 'switched', since: 82 * DAY }, 84 * DAY, 'drop'],
    [
      'end one rotation before the next that is asked for',
      { phase: 'switched', since: DAY, asked: '2', done: '1' },
      2 * DAY,
      'none',
      3 * DAY,
    ],
  ])('%s', (_name, state, now, step, due) => {
    expect(nextStep({ ...steady, ...state }, policy, now)).toMatchObject({ step, ...(due === undefined ? {} : { due }) });
  });

  it('is never due in the past, and what is due is done at that time', () => {
    fc.assert(
      fc.property(
        fc.constantFrom('steady' as const, 'introduced' as const, 'switched' as const),
        fc.nat(200 * DAY),
        fc.option(fc.nat(200 * DAY), { nil: undefined }),
        (phase, now, since) => {
          const state = { ...steady, phase, since };
          const next = nextStep(state, policy, now);
          if (next.step !== 'none') return;
          expect(next.due).toBeGreaterThan(now);
          expect(nextStep(state, policy, Math.ceil(next.due)).step).not.toBe('none');
        },
      ),
    );
  });
});

const subject = (pem: string): string => new X509Certificate(pem).subject;
const rootsOf = (bundle: string): string[] =>
  bundle
    .split(/(?<=-----END CERTIFICATE-----\n)/)
    .filter(Boolean)
    .map(subject);
const withAnnotations = (secret: KubeObject, annotations: Record<string, string>): KubeObject => ({
  ...secret,
  metadata: { ...secret.metadata, annotations: { ...secret.metadata.annotations, ...annotations } },
});

describe('a rotation on the Secret', () => {
  it('goes through its phases, with both roots trusted in between, and leaves the Secret as a new one', async () => {
    const now = Date.now();
    const first = await createRoot({ name: 'first' });
    const other = await createRoot({ name: "the operator's other mesh" });
    let secret = newRootSecret('culvert-system', first);
    expect(await phaseOf(secret)).toEqual(['steady', 'CN=first', ['CN=first']]);
    const files = filesOf(secret);
    secret = withData(secret, { [ROOT_CERT]: `${files[ROOT_CERT] ?? ''}${other.certificate}` });

    secret = introduce(withAnnotations(secret, { 'culvert.dev/rotate-root': 'now' }), await createRoot({ name: 'second' }), now);
    expect(await phaseOf(secret)).toEqual(['introduced', 'CN=first', ['CN=first', "CN=the operator's other mesh", 'CN=second']]);
    expect(rotationOf(secret)).toMatchObject({ since: now, asked: 'now', done: 'now' });

    secret = switchRoot(secret, now + 5);
    expect(await phaseOf(secret)).toEqual(['switched', 'CN=second', ['CN=second', 'CN=first', "CN=the operator's other mesh"]]);
    expect(rotationOf(secret).since).toBe(now + 5);

    secret = dropPrevious(datePhase(secret, now + 9));
    expect(await phaseOf(secret)).toEqual(['steady', 'CN=second', ['CN=second', "CN=the operator's other mesh"]]);
    expect(Object.keys(filesOf(secret)).sort()).toEqual([CA_CERT, CA_KEY, CERT_CHAIN, ROOT_CERT].sort());
    expect(secret.metadata.annotations).not.toHaveProperty([SINCE_ANNOTATION]);
  });

  it('names everything that is wrong with a Secret', async () => {
    const [root, other] = [await createRoot({ name: 'root' }), await createRoot({ name: 'other' })];
    const secret = newRootSecret('culvert-system', root);
    const wrong = (files: Record<string, string | undefined>) => readCaSecret(withData(secret, files)).catch((error: unknown) => error);
    expect(await wrong({ [CA_CERT]: 'garbage', [CA_KEY]: undefined })).toMatchObject({
      code: 'CERTIFICATE',
      message: expect.stringMatching(
        /^read CA from secret culvert-system\/culvert-ca-secret: ca-cert\.pem: .+; ca-key\.pem: it is missing$/,
      ) as string,
    });
    expect(String(await wrong({ [CA_KEY]: other.key }))).toContain('ca-key.pem: it is not the key of the CA certificate');
    expect(String(await wrong({ [ROOT_CERT]: other.certificate }))).toContain(
      'cert-chain.pem: ca-cert.pem leads to no root of root-cert.pem',
    );
    expect(String(await wrong({ [ROOT_CERT]: 'x', [CERT_CHAIN]: 'y' }))).toMatch(
      /cert-chain\.pem: no PEM certificate in it; root-cert\.pem: no PEM/,
    );
    const old = await createRoot({ name: 'old', lifetimeMs: DAY, now: Date.now() - 2 * DAY });
    expect(String(await wrong({ [CA_CERT]: old.certificate, [CA_KEY]: old.key }))).toContain('ca-cert.pem: it has expired at');
    expect(String(await wrong({ [NEXT_CERT]: other.certificate }))).toContain(
      'the root to come (next-ca-cert.pem, next-ca-key.pem): ca-key.pem: it is missing',
    );
    expect(String(await wrong({ [NEXT_KEY]: other.key }))).toContain('ca-cert.pem: it is missing');
  });

  it('ends with an error that names the Secret, or with what can sign, whatever the Secret holds', async () => {
    const root = await createRoot({ name: 'root' });
    const secret = newRootSecret('culvert-system', root);
    const text = fc.oneof(fc.constantFrom(undefined, '', root.certificate, root.key, root.certificate.slice(0, 200)), fc.string());
    const keys = [CA_CERT, CA_KEY, CERT_CHAIN, ROOT_CERT, NEXT_CERT, NEXT_KEY, PREVIOUS_ROOT];
    await fc.assert(
      fc.asyncProperty(fc.array(text, { minLength: keys.length, maxLength: keys.length }), async (texts) => {
        const files = Object.fromEntries(keys.map((key, index) => [key, texts[index]]));
        const read = await readCaSecret(withData(secret, files)).catch((error: unknown) => error);
        if (read instanceof Error) expect(read).toMatchObject({ code: 'CERTIFICATE' });
        else expect(files[CA_CERT]).toBe(root.certificate);
      }),
    );
    await expect(readCaSecret({ metadata: { name: 'x' }, data: { [CA_CERT]: 7 } })).rejects.toMatchObject({ code: 'CERTIFICATE' });
  });
});

describe("an operator's intermediate", () => {
  it('is handed out with what leads to the root, and nothing lives longer than any of it', async () => {
    const root = await createRoot({ name: 'root' });
    const signer = await readSigner(root.certificate, root.key);
    const upper = await intermediate('upper', signer, 5 * DAY);
    const lower = await intermediate('lower', await readSigner(upper.certificate, upper.key), 9 * DAY);
    const chains: Record<string, string> = {
      'as Istio asks for it': lower.certificate + upper.certificate + root.certificate,
      'without itself and the root': upper.certificate,
      'in another order': root.certificate + upper.certificate + lower.certificate,
    };
    for (const chain of Object.values(chains)) {
      const files = { [CA_CERT]: lower.certificate, [CA_KEY]: lower.key, [CERT_CHAIN]: chain, [ROOT_CERT]: root.certificate };
      const material = await readMaterial('test', files);
      expect(material.intermediates.map(subject)).toEqual(['CN=lower', 'CN=upper']);
      expect(material.roots).toBe(root.certificate);
      expect(material.notAfter).toBe(new X509Certificate(upper.certificate).validToDate.getTime());
    }
    const bare = { [CA_CERT]: lower.certificate, [CA_KEY]: lower.key };
    await expect(readMaterial('test', bare)).rejects.toThrow('root-cert.pem: it is missing, and ca-cert.pem is no root');
    await expect(readMaterial('test', { ...bare, [ROOT_CERT]: root.certificate })).rejects.toThrow('leads to no root');
    await expect(
      readMaterial('test', { ...bare, [CERT_CHAIN]: upper.certificate, [ROOT_CERT]: root.certificate }, Date.now() + 6 * DAY),
    ).rejects.toThrow('cert-chain.pem: CN=upper has expired');
    const keys = await generateKeys();
    const leaf = await signLeaf(signer, { publicKey: keys.publicKey, names: [{ type: 'dns', value: 'x' }], lifetimeMs: DAY });
    await expect(readMaterial('test', { [CA_CERT]: leaf, [CA_KEY]: await privateKeyPem(keys.privateKey) })).rejects.toThrow(
      'ca-cert.pem: it is no CA certificate',
    );
  });
});

async function phaseOf(secret: KubeObject): Promise<[string, string, string[]]> {
  const { signer, roots } = await readCaSecret(secret);
  return [rotationOf(secret).phase, signer.certificate.subject, rootsOf(roots)];
}

function withData(secret: KubeObject, files: Record<string, string | undefined>): KubeObject {
  const data = { ...(secret['data'] as Record<string, string>) };
  for (const [key, text] of Object.entries(files)) {
    if (text === undefined) Reflect.deleteProperty(data, key);
    else data[key] = Buffer.from(text).toString('base64');
  }
  return { ...secret, data };
}

async function intermediate(name: string, by: Awaited<ReturnType<typeof readSigner>>, lifetimeMs: number) {
  const keys = await generateKeys();
  const made = await x509.X509CertificateGenerator.create({
    subject: `CN=${name}`,
    issuer: by.name,
    publicKey: keys.publicKey,
    signingKey: by.key,
    signingAlgorithm: KEY_ALGORITHM,
    notAfter: new Date(Date.now() + lifetimeMs),
    extensions: [
      new x509.BasicConstraintsExtension(true, undefined, true),
      await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
      by.keyIdentifier,
    ],
  });
  return { certificate: `${made.toString('pem').trim()}\n`, key: await privateKeyPem(keys.privateKey) };
}
