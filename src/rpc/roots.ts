/** The roots that a control plane's certificate must lead to: a PEM file that an operator or kubelet may replace at any time. */
import { X509Certificate } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { createSecureContext, getCACertificates, type SecureContext } from 'node:tls';
import { CulvertError } from '../base/errors.ts';

/** Instead of a path: the roots that the operating system trusts. */
const SYSTEM_ROOTS = 'SYSTEM';

const CERTIFICATE = /-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g;

export interface Roots {
  /** compared with what the file holds later */
  text: string;
  context: SecureContext;
}

/**
 * @param known what is in use; returned itself when the file still says the same
 * @throws XDS naming the path: not readable, no certificate in it, or one that is none
 */
export async function readRoots(path: string, known: Roots | undefined): Promise<Roots> {
  const text = path === SYSTEM_ROOTS ? SYSTEM_ROOTS : await textOf(path);
  if (text === known?.text) return known;
  return { text, context: text === SYSTEM_ROOTS ? createSecureContext({ ca: getCACertificates('system') }) : trust(text, path) };
}

async function textOf(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    throw new CulvertError('XDS', `read roots of the control plane ${path}`, error);
  }
}

function trust(text: string, path: string): SecureContext {
  const certificates = text.match(CERTIFICATE) ?? [];
  if (certificates.length === 0) throw new CulvertError('XDS', `read roots of the control plane ${path}: no PEM certificate in it`);
  for (const [index, certificate] of certificates.entries()) {
    try {
      new X509Certificate(certificate);
    } catch (error) {
      throw new CulvertError('XDS', `read roots of the control plane ${path}: certificate ${index + 1} cannot be read`, error);
    }
  }
  return createSecureContext({ ca: certificates });
}
