/**
 * Callers' tokens, judged by the Kubernetes API (TokenReview): only it knows whether the pod and the account behind a token still exist.
 * Good answers are kept for a few seconds, because a tunnel asks for many certificates with one token; bad ones never.
 */
import { createHash } from 'node:crypto';
import { CulvertError } from '../../base/errors.ts';
import type { KubeApi, KubeObject } from '../../kubernetes/api.ts';
import type { Authenticator, Caller } from '../authenticator.ts';

const PATH = '/apis/authentication.k8s.io/v1/tokenreviews';
const CACHE_MS = 10_000;
const CACHE_ENTRIES = 10_000;
/** Reviews under way at once; each may wait for the API server. */
const MAX_PENDING = 1000;
const MAX_TOKEN = 32 * 1024;
const ACCOUNT = /^system:serviceaccount:([^:]+):([^:]+)$/;

export interface TokenReviewOptions {
  api: KubeApi;
  /** that tokens must be made for; Istio's is "istio-ca" */
  audience: string;
  /** how long a good answer holds, at most 10 s */
  cacheMs?: number;
}

export class TokenReviewAuthenticator implements Authenticator {
  readonly #options: TokenReviewOptions;
  readonly #cacheMs: number;
  /** by digest of the token, oldest first */
  readonly #known = new Map<string, { caller: Caller; until: number }>();
  readonly #pending = new Map<string, Promise<Caller>>();

  constructor(options: TokenReviewOptions) {
    this.#options = options;
    this.#cacheMs = Math.min(options.cacheMs ?? CACHE_MS, CACHE_MS);
  }

  async authenticate(token: string): Promise<Caller> {
    if (token === '') throw refusal('no token');
    if (token.length > MAX_TOKEN) throw refusal(`it has ${String(token.length)} characters`);
    const digest = createHash('sha256').update(token).digest('base64');
    const known = this.#known.get(digest);
    if (known !== undefined && known.until > Date.now()) return known.caller;
    const pending = this.#pending.get(digest);
    if (pending !== undefined) return pending;
    if (this.#pending.size >= MAX_PENDING)
      throw new CulvertError('KUBERNETES', `review token: ${String(MAX_PENDING)} reviews are under way`, undefined, { retryable: true });
    const review = this.#review(token, digest).finally(() => this.#pending.delete(digest));
    this.#pending.set(digest, review);
    return review;
  }

  async #review(token: string, digest: string): Promise<Caller> {
    const { api, audience } = this.#options;
    const body = { apiVersion: 'authentication.k8s.io/v1', kind: 'TokenReview', metadata: {}, spec: { token, audiences: [audience] } };
    // A review is asked, not stored: it has no name.
    const answer = await api.create(PATH, body as unknown as KubeObject);
    const caller = readReview(answer, audience);
    this.#known.delete(digest);
    this.#known.set(digest, { caller, until: Date.now() + this.#cacheMs });
    for (const [oldest] of this.#known) {
      if (this.#known.size <= CACHE_ENTRIES) break;
      this.#known.delete(oldest);
    }
    return caller;
  }
}

/** @throws UNAUTHENTICATED with what the API server said */
export function readReview(review: KubeObject, audience: string): Caller {
  const status = record(review['status']);
  if (status['authenticated'] !== true) {
    const why = status['error'];
    throw refusal(typeof why === 'string' && why !== '' ? why : 'the API server does not know it');
  }
  // A server that knows no audiences answers without them; then the token is good for the API itself, and not meant for us.
  const audiences = Array.isArray(status['audiences']) ? (status['audiences'] as unknown[]) : [];
  if (!audiences.includes(audience)) throw refusal(`its audience is ${audiences.join(', ') || 'none'}, ${audience} is needed`);
  const user = record(status['user']);
  const username = String(user['username']);
  const [, namespace, serviceAccount] = ACCOUNT.exec(username) ?? [];
  if (namespace === undefined || serviceAccount === undefined) throw refusal(`${username} is no service account`);
  const extra = record(user['extra']);
  const name = first(extra['authentication.kubernetes.io/pod-name']);
  const uid = first(extra['authentication.kubernetes.io/pod-uid']);
  if (name === undefined || uid === undefined) return { namespace, serviceAccount };
  const node = first(extra['authentication.kubernetes.io/node-name']);
  return { namespace, serviceAccount, pod: { name, uid }, ...(node === undefined ? {} : { node }) };
}

function first(value: unknown): string | undefined {
  const [one] = Array.isArray(value) ? (value as unknown[]) : [];
  return typeof one === 'string' && one !== '' ? one : undefined;
}

function record(value: unknown): Record<string, unknown> {
  return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {};
}

function refusal(why: string): CulvertError {
  return new CulvertError('UNAUTHENTICATED', `accept token: ${why}`);
}
