/** PEM text: certificates in the order in which they stand. Bundles carry comments and blank lines between the blocks. */
import { X509Certificate } from 'node:crypto';

const BLOCK = /-----BEGIN ([A-Z0-9 ]+)-----[^-]*-----END \1-----/g;

/** The blocks of one label, each ending in one newline; text around them is not looked at. */
export function pemBlocks(text: string, label: string): string[] {
  return [...text.matchAll(BLOCK)].filter(([, found]) => found === label).map(([block]) => `${block.replaceAll('\r', '')}\n`);
}

/** @throws when there is none, or one cannot be read; says which */
export function readCertificates(text: string): X509Certificate[] {
  const blocks = pemBlocks(text, 'CERTIFICATE');
  if (blocks.length === 0) throw new Error('no PEM certificate in it');
  return blocks.map((block, index) => {
    try {
      return new X509Certificate(block);
    } catch (error) {
      throw new Error(`certificate ${index + 1} of ${blocks.length} cannot be read`, { cause: error });
    }
  });
}

/** One certificate, ending in one newline. */
export function pemOf(certificate: X509Certificate): string {
  return `${certificate.toString().trim()}\n`;
}

/** Signed by its own key: the end of a chain. */
export function isSelfSigned(certificate: X509Certificate): boolean {
  return certificate.checkIssued(certificate) && certificate.verify(certificate.publicKey);
}
