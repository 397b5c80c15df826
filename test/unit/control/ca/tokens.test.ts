import { chmodSync, mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { readTokens, TokenFileAuthenticator } from '../../../../src/control/ca/token-file.ts';
import { readReview, TokenReviewAuthenticator } from '../../../../src/control/ca/token-review.ts';
import type { KubeApi, KubeObject } from '../../../../src/kubernetes/api.ts';
import { recordingLog } from '../../../support/ca/log.ts';

const review = (status: unknown): KubeObject => ({ metadata: { name: '' }, status });
const good = {
  authenticated: true,
  audiences: ['istio-ca'],
  user: {
    username: 'system:serviceaccount:istio-system:ztunnel',
    extra: {
      'authentication.kubernetes.io/pod-name': ['ztunnel-a'],
      'authentication.kubernetes.io/pod-uid': ['u-a'],
      'authentication.kubernetes.io/node-name': ['node-a'],
    },
  },
};

describe('token reviews', () => {
  it('say who calls', () => {
    const pod = { name: 'ztunnel-a', uid: 'u-a' };
    expect(readReview(review(good), 'istio-ca')).toEqual({ namespace: 'istio-system', serviceAccount: 'ztunnel', pod, node: 'node-a' });
    const unbound = { ...good, user: { ...good.user, extra: { 'authentication.kubernetes.io/node-name': ['node-a'] } } };
    expect(readReview(review(unbound), 'istio-ca')).toEqual({ namespace: 'istio-system', serviceAccount: 'ztunnel' });
  });

  it.each([
    ['refused', { authenticated: false, error: '[invalid bearer token, service account token has expired]' }, 'token has expired'],
    ['refused without a word', {}, 'the API server does not know it'],
    ['of another audience', { ...good, audiences: ['vault'] }, 'its audience is vault, istio-ca is needed'],
    ['of a server that knows no audiences', { ...good, audiences: undefined }, 'its audience is none'],
    ['of a person', { ...good, user: { username: 'jane' } }, 'jane is no service account'],
    ['of a node', { ...good, user: { username: 'system:node:a' } }, 'system:node:a is no service account'],
  ])('%s', (_name, status, why) => {
    expect(() => readReview(review(status), 'istio-ca')).toThrow(why);
  });

  it('of any shape end in a caller or a refusal', () => {
    fc.assert(
      fc.property(fc.anything(), fc.anything(), (status, user) => {
        for (const one of [status, { ...good, user }, { ...good, user: { ...good.user, extra: user } }]) {
          try {
            expect(readReview(review(one), 'istio-ca')).toHaveProperty('serviceAccount');
          } catch (error) {
            expect(error).toMatchObject({ code: 'UNAUTHENTICATED' });
          }
        }
      }),
    );
  });

  it('are shared by calls at once, kept for a moment when good, never when bad', async () => {
    let answer: unknown = good;
    const created = vi.fn(async (_path: string, _body: KubeObject) => review(answer));
    const api = { create: created } as unknown as KubeApi;
    const authenticator = new TokenReviewAuthenticator({ api, audience: 'istio-ca', cacheMs: 300 });
    await Promise.all(Array.from({ length: 10 }, () => authenticator.authenticate('t')));
    await authenticator.authenticate('t');
    expect(created).toHaveBeenCalledOnce();
    expect(created.mock.calls[0]?.[1]).toMatchObject({ spec: { token: 't', audiences: ['istio-ca'] } });
    answer = { authenticated: false, error: 'gone' };
    await expect(authenticator.authenticate('other')).rejects.toThrow('gone');
    await expect(authenticator.authenticate('other')).rejects.toThrow('gone');
    expect(created).toHaveBeenCalledTimes(3);
    await vi.waitFor(() => expect(authenticator.authenticate('t')).rejects.toThrow('gone'));
    created.mockRejectedValueOnce(new Error('API is away'));
    await expect(authenticator.authenticate('t')).rejects.toThrow('API is away');
    created.mockClear();
    for (const none of ['', 'x'.repeat(40_000)])
      await expect(authenticator.authenticate(none)).rejects.toMatchObject({ code: 'UNAUTHENTICATED' });
    expect(created).not.toHaveBeenCalled();
  });
});

describe('a file of tokens', () => {
  const dir = mkdtempSync(join(tmpdir(), 'cvt-tokens-'));
  const path = join(dir, 'tokens.json');
  const { log, lines } = recordingLog();
  const A = 'a'.repeat(32);
  const B = 'b'.repeat(32);
  const entry = (node: string) => ({ namespace: 'istio-system', serviceAccount: 'ztunnel', node });
  const write = (content: unknown) => {
    writeFileSync(`${path}.new`, typeof content === 'string' ? content : JSON.stringify(content), { mode: 0o600 });
    renameSync(`${path}.new`, path);
  };
  afterAll(() => {
    rmSync(dir, { recursive: true });
  });
  beforeEach(() => {
    lines.length = 0;
    write({ [A]: { ...entry('node-a'), pod: { name: 'p', uid: 'u' } } });
  });

  it('says whose a token is, and vouches for the node', async () => {
    const authenticator = await TokenFileAuthenticator.open(path, log);
    expect(await authenticator.authenticate(A)).toEqual(entry('node-a'));
    await expect(authenticator.authenticate(B)).rejects.toMatchObject({ code: 'UNAUTHENTICATED' });
    await expect(authenticator.authenticate('__proto__')).rejects.toMatchObject({ code: 'UNAUTHENTICATED' });
  });

  it('is read again when it changes; a bad one is reported once and the last good one stays', async () => {
    const authenticator = await TokenFileAuthenticator.open(path, log);
    write({ [B]: entry('node-b') });
    expect(await authenticator.authenticate(B)).toEqual(entry('node-b'));
    await expect(authenticator.authenticate(A)).rejects.toThrow();
    write({ short: entry('x'), [A]: { namespace: 'x' } });
    for (let call = 0; call < 3; call++) expect(await authenticator.authenticate(B)).toEqual(entry('node-b'));
    expect(lines).toHaveLength(1);
    expect(lines[0]?.msg).toMatch(/entry 1: .*16 characters.*; entry 2\.serviceAccount: .*; entry 2\.node: /);
    expect(JSON.stringify(lines)).not.toContain(A);
    chmodSync(path, 0o644);
    await authenticator.authenticate(B);
    expect(lines[1]?.msg).toContain('its mode is 644');
    rmSync(path);
    for (let call = 0; call < 3; call++) await authenticator.authenticate(B);
    expect(lines).toHaveLength(3);
    write({ [A]: entry('node-a') });
    expect(await authenticator.authenticate(A)).toEqual(entry('node-a'));
  });

  it('must be good at the start', async () => {
    await expect(TokenFileAuthenticator.open(join(dir, 'none'), log)).rejects.toMatchObject({ code: 'CONFIG_INVALID' });
    write('{');
    await expect(TokenFileAuthenticator.open(path, log)).rejects.toMatchObject({ code: 'CONFIG_INVALID' });
  });

  it('of any content is read or refused', () => {
    const texts = fc.oneof(
      fc.string(),
      fc.json(),
      fc.dictionary(fc.string({ minLength: 16 }), fc.anything()).map((value) => JSON.stringify(value)),
    );
    fc.assert(
      fc.property(texts, (text) => {
        try {
          expect(readTokens(text)).toBeInstanceOf(Map);
        } catch (error) {
          expect(error).toBeInstanceOf(Error);
          expect(error).not.toBeInstanceOf(TypeError);
        }
      }),
    );
  });
});
