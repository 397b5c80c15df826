/** `IstioCertificateService/CreateCertificate`: who calls, what may the caller have, and the certificate. */
import { status, type handleUnaryCall, type ServerUnaryCall } from '@grpc/grpc-js';
import { create } from '@bufbuild/protobuf';
import type { Changes } from '../../base/changes.ts';
import { CulvertError, describe, isCulvert } from '../../base/errors.ts';
import type { Logger } from '../../base/log.ts';
import { IstioCertificateResponseSchema, type IstioCertificateRequest, type IstioCertificateResponse } from '../../proto/certificate_pb.js';
import { createCertificate, IMPERSONATED_IDENTITY } from '../../rpc/services.ts';
import type { Authenticator, Caller } from '../authenticator.ts';
import { bearerToken } from '../bearer-token.ts';
import type { Method } from '../server.ts';
import type { Authority } from './authority.ts';
import { entitle, type Entitlement, type EntitlementPolicy } from './entitlement.ts';
import type { AccountLookup, Inventory } from './inventory.ts';

/** What the cluster tells us comes a moment after kubelet starts a pod. */
const BEHIND_MS = 2000;
/** Of a SPIFFE id, says SPIFFE. */
const MAX_IDENTITY = 2048;

export interface CertificateServiceOptions {
  authority: Authority;
  authenticator: Authenticator;
  policy: EntitlementPolicy;
  inventory: Inventory;
  /** notified after every change of the inventory, so that what is a little behind can be waited for */
  changes: Changes;
  /** undefined: what the inventory does not know does not exist */
  lookup?: AccountLookup;
  log: Logger;
  /** how long a state that may be behind is waited for, ms */
  behindMs?: number;
}

export function certificateService(options: CertificateServiceOptions): Method {
  const { log } = options;
  const handler: handleUnaryCall<IstioCertificateRequest, IstioCertificateResponse> = (call, answer) => {
    const asked: { caller?: Caller; identity?: string } = {};
    respond(options, call, asked).then(
      (response) => answer(null, response),
      (error: unknown) => {
        const code = statusOf(error);
        const internal = code === status.INTERNAL; // a fault of ours: nothing that the caller could use
        log[internal ? 'error' : 'warn']({ ...asked, peer: call.getPeer(), status: status[code] }, describe(error));
        answer({ code, details: internal ? 'internal error' : describe(error) });
      },
    );
  };
  return { definition: createCertificate, handler };
}

async function respond(
  options: CertificateServiceOptions,
  { request, metadata }: ServerUnaryCall<IstioCertificateRequest, IstioCertificateResponse>,
  asked: { caller?: Caller; identity?: string },
): Promise<IstioCertificateResponse> {
  const { authority, authenticator, log } = options;
  const caller = await authenticator.authenticate(bearerToken(metadata));
  asked.caller = caller;
  const requested = request.metadata?.[IMPERSONATED_IDENTITY] ?? '';
  if (typeof requested !== 'string') throw refusal('CERTIFICATE', `read request: ${IMPERSONATED_IDENTITY} is no text`);
  // Answer and log repeat it; whoever has any token of the cluster gets here.
  if (requested.length > MAX_IDENTITY)
    throw refusal('CERTIFICATE', `read request: ${IMPERSONATED_IDENTITY} has ${requested.length} characters`);
  asked.identity = requested;
  const identity = await entitledIdentity(options, caller, requested);
  // Number() is exact enough: what does not fit is far above any maximum.
  const { chain, roots } = await authority.sign({ csr: request.csr, identity, lifetimeMs: Number(request.validityDuration) * 1000 });
  log.debug({ caller, identity }, 'certificate signed');
  return create(IstioCertificateResponseSchema, { certChain: [...chain, roots] });
}

/** @throws PERMISSION_DENIED or CERTIFICATE when refused, KUBERNETES when the API had to be asked and could not be */
async function entitledIdentity(
  { policy, inventory, changes, lookup, behindMs = BEHIND_MS }: CertificateServiceOptions,
  caller: Caller,
  requested: string,
): Promise<string> {
  const decide = (): Entitlement => entitle(caller, requested, policy, inventory);
  let decision = decide();
  if (decision.verdict === 'refused' && decision.later) {
    await changes.until(() => {
      decision = decide();
      return decision.verdict === 'refused' && decision.later ? undefined : decision;
    }, behindMs);
  }
  if (decision.verdict === 'granted') return decision.identity;
  const whom = `give ${caller.namespace}/${caller.serviceAccount} a certificate for ${requested}`;
  if (decision.verdict === 'refused') throw refusal(decision.code, `${whom}: ${decision.reason}`);
  const { namespace, serviceAccount, identity } = decision;
  if (lookup !== undefined && (await lookup(namespace, serviceAccount))) return identity;
  throw refusal('PERMISSION_DENIED', `${whom}: there is no service account ${namespace}/${serviceAccount}`);
}

function refusal(code: 'PERMISSION_DENIED' | 'CERTIFICATE', message: string): CulvertError {
  return new CulvertError(code, message, undefined, { retryable: false });
}

/** The gRPC status of our errors. */
function statusOf(error: unknown): status {
  if (isCulvert(error, 'UNAUTHENTICATED')) return status.UNAUTHENTICATED;
  if (isCulvert(error, 'PERMISSION_DENIED')) return status.PERMISSION_DENIED;
  if (isCulvert(error, 'CERTIFICATE') && !error.retryable) return status.INVALID_ARGUMENT;
  if (isCulvert(error, 'CERTIFICATE') || isCulvert(error, 'KUBERNETES')) return status.UNAVAILABLE;
  return status.INTERNAL;
}
