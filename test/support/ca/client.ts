/** A caller of the certificate service: real gRPC over real TLS. */
import { Client, credentials, Metadata, type ServiceError } from '@grpc/grpc-js';
import { create } from '@bufbuild/protobuf';
import { IstioCertificateRequestSchema, type IstioCertificateResponse } from '../../../src/proto/certificate_pb.js';
import { createCertificate, IMPERSONATED_IDENTITY } from '../../../src/rpc/services.ts';

export interface Ask {
  token?: string;
  csr: string;
  identity?: unknown;
  seconds?: number;
}

export class CaClient {
  readonly #client: Client;

  /** @param roots PEM; what the server is trusted by */
  constructor(port: number, roots: string, name = 'localhost') {
    // No pool shared with other clients: each one shakes hands anew.
    const options = { 'grpc.ssl_target_name_override': name, 'grpc.use_local_subchannel_pool': 1 };
    this.#client = new Client(`127.0.0.1:${port}`, credentials.createSsl(Buffer.from(roots)), options);
  }

  ask({ token, csr, identity, seconds = 0 }: Ask): Promise<IstioCertificateResponse> {
    const metadata = new Metadata();
    if (token !== undefined) metadata.set('authorization', `Bearer ${token}`);
    const request = create(IstioCertificateRequestSchema, {
      csr,
      validityDuration: BigInt(seconds),
      ...(identity === undefined ? {} : { metadata: { [IMPERSONATED_IDENTITY]: identity as string } }),
    });
    const { path, requestSerialize, responseDeserialize } = createCertificate;
    return new Promise((resolve, reject) => {
      const deadline = { deadline: Date.now() + 8000 };
      this.#client.makeUnaryRequest(path, requestSerialize, responseDeserialize, request, metadata, deadline, (error, response) => {
        if (error !== null || response === undefined) reject(error ?? new Error('no response'));
        else resolve(response);
      });
    });
  }

  /** The refusal, or a failure of the test when there was none. */
  async refusal(ask: Ask): Promise<ServiceError> {
    const answer = await this.ask(ask).then(
      () => undefined,
      (error: unknown) => error as ServiceError,
    );
    if (answer === undefined) throw new Error('it was granted');
    return answer;
  }

  close(): void {
    this.#client.close();
  }
}
