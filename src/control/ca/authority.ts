/** The certificate authority: signs what it is told to, with the material in force at the moment. Who may have what is decided before. */
import type { webcrypto } from 'node:crypto';
import { CulvertError } from '../../base/errors.ts';
import { keyOfRequest } from '../../identity/csr.ts';
import { signLeaf } from '../../identity/leaf.ts';
import type { x509 } from '../../identity/x509.ts';
import type { CaMaterial } from './material.ts';

/** As Istio's DEFAULT_WORKLOAD_CERT_TTL and MAX_WORKLOAD_CERT_TTL. */
export const DEFAULT_LIFETIME_MS = 24 * 3600_000;
export const MAX_LIFETIME_MS = 90 * 24 * 3600_000;

export interface AuthorityOptions {
  /** when a request names no lifetime */
  defaultLifetimeMs?: number;
  /** requests for more are refused, as Istio does, so that nobody relies on what was not given */
  maxLifetimeMs?: number;
  /** before a certificate of that life is handed out; it is not when this fails */
  reserve?: (lifetimeMs: number) => Promise<void>;
}

export interface Signed {
  /** PEM, one certificate each: the leaf, then intermediates */
  chain: string[];
  /** PEM, all roots that are trusted now, in one text */
  roots: string;
}

export class Authority {
  readonly #defaultLifetimeMs: number;
  readonly #maxLifetimeMs: number;
  readonly #reserve: (lifetimeMs: number) => Promise<void>;
  readonly #listeners = new Set<() => void>();
  #material: CaMaterial;

  constructor(material: CaMaterial, options: AuthorityOptions = {}) {
    this.#material = material;
    this.#reserve = options.reserve ?? (() => Promise.resolve());
    this.#maxLifetimeMs = options.maxLifetimeMs ?? MAX_LIFETIME_MS;
    this.#defaultLifetimeMs = Math.min(options.defaultLifetimeMs ?? DEFAULT_LIFETIME_MS, this.#maxLifetimeMs);
  }

  /** PEM, all roots that are trusted now, in one text */
  get roots(): string {
    return this.#material.roots;
  }

  /** Serial number of the certificate that signs now. */
  get signer(): string {
    return this.#material.signer.certificate.serialNumber;
  }

  /** From now on. Listeners are told when anything is different. */
  install(material: CaMaterial): void {
    const before = this.#material;
    this.#material = material;
    if (before.roots === material.roots && before.signer.certificate.raw.equals(material.signer.certificate.raw)) return;
    for (const listener of [...this.#listeners]) listener();
  }

  /** After every change of signer or roots. */
  onChange(listener: () => void): { close(): void } {
    this.#listeners.add(listener);
    return { close: () => this.#listeners.delete(listener) };
  }

  /**
   * A workload's certificate.
   * @param request.lifetimeMs 0 or less: the default
   * @throws CERTIFICATE: retryable when the fault is ours, not when the request is bad; what `reserve` throws
   */
  async sign(request: { csr: string; identity: string; lifetimeMs: number }): Promise<Signed> {
    const { identity } = request;
    const lifetimeMs = request.lifetimeMs > 0 ? request.lifetimeMs : this.#defaultLifetimeMs;
    if (lifetimeMs > this.#maxLifetimeMs) {
      const [asked, allowed] = [lifetimeMs, this.#maxLifetimeMs].map((ms) => Math.ceil(ms / 1000));
      throw refusal(identity, new Error(`a validity of ${String(asked)} s is asked for, ${String(allowed)} s are allowed`));
    }
    let publicKey;
    try {
      publicKey = await keyOfRequest(request.csr);
    } catch (error) {
      throw refusal(identity, error);
    }
    await this.#reserve(lifetimeMs);
    return this.#sign(identity, { publicKey, names: [{ type: 'url', value: identity }], lifetimeMs });
  }

  /** A certificate for a server of our own. @throws CERTIFICATE */
  signServer(publicKey: webcrypto.CryptoKey, names: x509.JsonGeneralNames, lifetimeMs: number): Promise<Signed> {
    return this.#sign('our own server', { publicKey, names, lifetimeMs });
  }

  async #sign(whom: string, request: Parameters<typeof signLeaf>[1]): Promise<Signed> {
    const { signer, intermediates, roots, notAfter } = this.#material;
    const now = Date.now();
    try {
      if (now >= notAfter) throw new Error(`the CA's certificates have expired at ${new Date(notAfter).toISOString()}`);
      const leaf = await signLeaf(signer, { ...request, now, lifetimeMs: Math.min(request.lifetimeMs, notAfter - now) });
      return { chain: [leaf, ...intermediates], roots };
    } catch (error) {
      throw new CulvertError('CERTIFICATE', `sign certificate of ${whom}`, error);
    }
  }
}

function refusal(identity: string, cause: unknown): CulvertError {
  return new CulvertError('CERTIFICATE', `sign certificate of ${identity}`, cause, { retryable: false });
}
