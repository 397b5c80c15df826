/** Who signs workload certificates: the lab's local CA now, the control plane's CA service by the same contract. */

export interface SigningRequest {
  /** SPIFFE identity that the certificate is for */
  identity: string;
  /** PKCS #10, PEM */
  csr: string;
  lifetimeMs: number;
}

export interface SigningAnswer {
  /** PEM, leaf first, then intermediates */
  chain: string[];
  /** PEM, the roots that peers are verified against */
  roots: string[];
}

export interface CertificateIssuer {
  /** @throws CERTIFICATE; the caller verifies the answer and decides about another try */
  sign(request: SigningRequest): Promise<SigningAnswer>;
}
