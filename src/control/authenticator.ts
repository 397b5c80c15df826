/** Who calls: a bearer token turned into the Kubernetes account behind it. */

export interface Caller {
  namespace: string;
  serviceAccount: string;
  /** the pod that the token is bound to; undefined for tokens bound to none */
  pod?: { name: string; uid: string };
  /** the node that the authenticator itself vouches for; undefined when it cannot */
  node?: string;
}

export interface Authenticator {
  /** @throws CulvertError UNAUTHENTICATED with the reason; KUBERNETES when nobody could be asked (retryable) */
  authenticate(token: string): Promise<Caller>;
}
