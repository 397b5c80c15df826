/**
 * Which PeerAuthentication counts for a workload, and the DENY policies that stand for STRICT, named as Istio names them. The oldest
 * counts at each level (mesh, namespace, selector); the narrowest level that is not UNSET decides. One place decides both what a
 * workload refers to and what that says, so that nothing refers to a policy that was never made.
 */
import { create } from '@bufbuild/protobuf';
import { EmptySchema } from '@bufbuild/protobuf/wkt';
import {
  Action,
  AuthorizationSchema,
  ClauseSchema,
  MatchSchema,
  RuleSchema,
  Scope,
  StringMatchSchema,
  type Authorization,
  type Clause,
  type StringMatch,
} from '../../proto/security_pb.js';
import type { PeerAuthentication } from './peer-authentication.ts';

/** '_' is in no Kubernetes name, so neither meets a policy of people. */
export const STATIC_STRICT = 'istio_converted_static_strict';
const CONVERTED = 'converted_peer_authentication_';

export function convertedName({ name }: PeerAuthentication): string {
  return `${CONVERTED}${name}`;
}

export function oldest(policies: Iterable<PeerAuthentication>): PeerAuthentication | undefined {
  let found: PeerAuthentication | undefined;
  for (const each of policies) if (found === undefined || older(each, found)) found = each;
  return found;
}

/** Of the same age: by name, so that every replica says the same. */
function older(one: PeerAuthentication, other: PeerAuthentication): boolean {
  return one.created === other.created ? one.key < other.key : one.created < other.created;
}

export function isStrict(own: PeerAuthentication | undefined, inherited: boolean): boolean {
  return own === undefined || own.mode === 'UNSET' ? inherited : own.mode === 'STRICT';
}

/** What stands for a policy with a selector: the static one, one of its own, or none. */
export function standsFor(peer: PeerAuthentication, inherited: boolean): 'static' | 'own' | undefined {
  if (isStrict(peer, inherited)) return peer.openPorts.length === 0 ? 'static' : 'own';
  return peer.strictPorts.length === 0 ? undefined : 'own';
}

export function staticStrict(rootNamespace: string): Authorization {
  return denying(STATIC_STRICT, rootNamespace, [[clause({ notPrincipals: [anybody()] })]]);
}

/** Strict: no plain text but on the open ports. Else: none on the strict ports. */
export function converted(peer: PeerAuthentication, inherited: boolean): Authorization {
  const rules = isStrict(peer, inherited)
    ? [[clause({ notPrincipals: [anybody()] }), ...peer.openPorts.map((port) => clause({ notDestinationPorts: [port] }))]]
    : peer.strictPorts.map((port) => [clause({ notPrincipals: [anybody()], destinationPorts: [port] })]);
  return denying(convertedName(peer), peer.namespace, rules);
}

function denying(name: string, namespace: string, rules: Clause[][]): Authorization {
  return create(AuthorizationSchema, {
    ...{ name, namespace, scope: Scope.WORKLOAD_SELECTOR, action: Action.DENY },
    rules: rules.map((clauses) => create(RuleSchema, { clauses })),
  });
}

interface Refused {
  notPrincipals?: StringMatch[];
  destinationPorts?: number[];
  notDestinationPorts?: number[];
}

function clause(match: Refused): Clause {
  return create(ClauseSchema, { matches: [create(MatchSchema, match)] });
}

function anybody(): StringMatch {
  return create(StringMatchSchema, { matchType: { case: 'presence', value: create(EmptySchema) } });
}
