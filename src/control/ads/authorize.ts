/** Who may watch the mesh: bearers of a token of the tunnels' own accounts. */
import { status, type Metadata } from '@grpc/grpc-js';
import { CulvertError, describe, isCulvert } from '../../base/errors.ts';
import { qualifiedName } from '../../state/workload.ts';
import type { Authenticator, Caller } from '../authenticator.ts';
import { bearerToken } from '../bearer-token.ts';

/** @throws CulvertError UNAUTHENTICATED, PERMISSION_DENIED; KUBERNETES when nobody could be asked */
export async function authorize(metadata: Metadata, authenticator: Authenticator, allowedAccounts: ReadonlySet<string>): Promise<Caller> {
  const caller = await authenticator.authenticate(bearerToken(metadata));
  const account = accountOf(caller);
  if (!allowedAccounts.has(account)) throw new CulvertError('PERMISSION_DENIED', `authorize ${account}: may not watch the mesh`);
  return caller;
}

/** "namespace/name" */
export function accountOf({ namespace, serviceAccount }: Caller): string {
  return qualifiedName({ namespace, name: serviceAccount });
}

/** The reason in gRPC's words; what is about control's own troubles says no more than that. */
export function refusalOf(error: unknown): { code: status; details: string } {
  if (isCulvert(error, 'UNAUTHENTICATED')) return { code: status.UNAUTHENTICATED, details: describe(error) };
  if (isCulvert(error, 'PERMISSION_DENIED')) return { code: status.PERMISSION_DENIED, details: describe(error) };
  return { code: status.UNAVAILABLE, details: 'callers cannot be authenticated at present' };
}
