/**
 * The CA of a control plane: one `CreateCertificate` per certificate, asked as this node's tunnel in the stead of a workload. The
 * answer is taken apart here and verified by who asked.
 */
import { create } from '@bufbuild/protobuf';
import { status, type Client, type Metadata } from '@grpc/grpc-js';
import { CulvertError } from '../base/errors.ts';
import { pemBlocks } from '../identity/pem.ts';
import { IstioCertificateRequestSchema, type IstioCertificateRequest, type IstioCertificateResponse } from '../proto/certificate_pb.js';
import { createCertificate, IMPERSONATED_IDENTITY } from '../rpc/services.ts';
import { isServiceError, statusText } from '../rpc/status.ts';
import type { CertificateIssuer, SigningAnswer, SigningRequest } from './issuer.ts';

const DEADLINE_MS = 10_000;
/** A chain with a dozen roots has some 20,000 characters. */
const MAX_CHARACTERS = 256 * 1024;
/** What this one identity will not get, whoever else gets theirs. Anything else says something of the CA or of our own access to it. */
const REFUSALS: readonly number[] = [status.INVALID_ARGUMENT, status.PERMISSION_DENIED, status.NOT_FOUND, status.FAILED_PRECONDITION];

/** The part of a ControlPlaneChannel that is used. */
export interface CaChannel {
  client(): Promise<Client>;
  metadata(): Promise<Metadata>;
}

export class CaClient implements CertificateIssuer {
  readonly #channel: CaChannel;
  readonly #deadlineMs: number;

  constructor(channel: CaChannel, deadlineMs = DEADLINE_MS) {
    this.#channel = channel;
    this.#deadlineMs = deadlineMs;
  }

  async sign({ identity, csr, lifetimeMs }: SigningRequest): Promise<SigningAnswer> {
    const request = create(IstioCertificateRequestSchema, {
      csr,
      validityDuration: BigInt(Math.max(1, Math.round(lifetimeMs / 1000))),
      metadata: { [IMPERSONATED_IDENTITY]: identity },
    });
    let response: IstioCertificateResponse;
    try {
      response = await this.#call(request);
    } catch (error) {
      const retryable = !isServiceError(error) || !REFUSALS.includes(error.code);
      throw new CulvertError('CERTIFICATE', `ask the CA for the certificate of ${identity}: ${statusText(error)}`, error, { retryable });
    }
    try {
      return takeApart(response.certChain);
    } catch (error) {
      throw new CulvertError('CERTIFICATE', `read the CA's answer for ${identity}`, error, { retryable: false });
    }
  }

  async #call(request: IstioCertificateRequest): Promise<IstioCertificateResponse> {
    const metadata = await this.#channel.metadata();
    const client = await this.#channel.client(); // last: another request may have the channel made anew, and this one would be closed
    const { path, requestSerialize, responseDeserialize } = createCertificate;
    return new Promise((resolve, reject) => {
      const deadline = Date.now() + this.#deadlineMs;
      client.makeUnaryRequest(path, requestSerialize, responseDeserialize, request, metadata, { deadline }, (error, response) => {
        if (error !== null) reject(error);
        else if (response === undefined) reject(new Error('no answer came'));
        else resolve(response);
      });
    });
  }
}

/**
 * Istio's shape: leaf, intermediates, roots. The last string is the roots, several of them while a root is rotated; the ones
 * between may hold several certificates as well.
 * @throws with what is wrong with it
 */
function takeApart(strings: readonly string[]): SigningAnswer {
  const characters = strings.reduce((sum, { length }) => sum + length, 0);
  if (characters > MAX_CHARACTERS) throw new Error(`it has ${characters} characters, ${MAX_CHARACTERS} are allowed`);
  if (strings.length === 0) throw new Error('it holds no certificate');
  if (strings.length === 1) throw new Error('it holds a certificate and no root');
  const certificates = strings.map((text, index) => {
    const blocks = pemBlocks(text, 'CERTIFICATE');
    if (blocks.length === 0) throw new Error(`part ${index + 1} of ${strings.length} holds no PEM certificate`);
    return blocks;
  });
  return { chain: certificates.slice(0, -1).flat(), roots: certificates.at(-1) ?? [] };
}
