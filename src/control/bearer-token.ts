/** The token of a call, as every caller of control has to show one. */
import type { Metadata } from '@grpc/grpc-js';
import { CulvertError } from '../base/errors.ts';

/** @throws UNAUTHENTICATED when there is not exactly one */
export function bearerToken(metadata: Metadata): string {
  const values = metadata.get('authorization');
  const [value] = values;
  const [, token] = /^Bearer +(\S+)$/i.exec(typeof value === 'string' ? value.trim() : '') ?? [];
  if (token === undefined || values.length !== 1)
    throw new CulvertError('UNAUTHENTICATED', 'accept token: the call needs one header "authorization: Bearer …"');
  return token;
}
