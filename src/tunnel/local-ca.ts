/**
 * A CA that is two PEM files: `ca.crt` and `ca.key` (P-256, PKCS #8) in one directory. For labs and tests, where the signing key
 * may lie beside the tunnel.
 */
import { chmod, mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { CulvertError } from '../base/errors.ts';
import { signWorkload } from '../identity/leaf.ts';
import { createRoot } from '../identity/root.ts';
import { readSigner } from '../identity/signer.ts';
import type { CertificateIssuer, SigningAnswer, SigningRequest } from './issuer.ts';

export interface LocalCaPaths {
  certificate: string;
  key: string;
}

export function localCaPaths(dir: string): LocalCaPaths {
  return { certificate: join(dir, 'ca.crt'), key: join(dir, 'ca.key') };
}

/** Writes a new self-signed CA into `dir` (created if missing), replacing one that is there. The key is 0600. */
export async function createLocalCa(dir: string, options: { name?: string; lifetimeMs?: number } = {}): Promise<LocalCaPaths> {
  const root = await createRoot({ ...options, name: options.name ?? 'Culvert local CA' });
  const paths = localCaPaths(dir);
  await mkdir(dir, { recursive: true });
  await writeFile(paths.key, root.key, { mode: 0o600 });
  await chmod(paths.key, 0o600); // the mode above does not apply to a file that was there
  await writeFile(paths.certificate, root.certificate);
  return paths;
}

/** Signs with the CA of a directory; the files are read for each request, so a replaced CA is taken up at the next refresh. */
export class LocalCaIssuer implements CertificateIssuer {
  readonly #dir: string;

  constructor(dir: string) {
    this.#dir = dir;
  }

  async sign(request: SigningRequest): Promise<SigningAnswer> {
    try {
      return await this.#sign(request);
    } catch (error) {
      throw new CulvertError('CERTIFICATE', `sign certificate of ${request.identity} with the CA in ${this.#dir}`, error);
    }
  }

  async #sign(request: SigningRequest): Promise<SigningAnswer> {
    const paths = localCaPaths(this.#dir);
    const [certificate, key] = await Promise.all([readFile(paths.certificate, 'utf8'), readFile(paths.key, 'utf8')]);
    return { chain: [await signWorkload(await readSigner(certificate, key), request)], roots: [certificate] };
  }
}
