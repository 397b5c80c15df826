/** Policies as a cluster tells of them, and a mesh that has them. */
import { toJson } from '@bufbuild/protobuf';
import { createLogger } from '../../../../src/base/log.ts';
import type { ObjectChange, PolicyObject } from '../../../../src/control/cluster.ts';
import { Policies } from '../../../../src/control/policy/policies.ts';
import { AuthorizationSchema, type Authorization } from '../../../../src/proto/security_pb.js';

export const ROOT = 'istio-system';
export const MESH = { rootNamespace: ROOT, trustDomain: 'cluster.local', log: createLogger('test', 'silent') };

type Some = Partial<Omit<PolicyObject, 'kind'>>;

export function authorizationPolicy(spec: unknown, some: Some = {}): PolicyObject {
  return { kind: 'AuthorizationPolicy', ...policy('policy', spec), ...some };
}

export function peerAuthentication(spec: unknown, some: Some = {}): PolicyObject {
  return { kind: 'PeerAuthentication', ...policy('peers', spec), ...some };
}

function policy(name: string, spec: unknown): Omit<PolicyObject, 'kind'> {
  return { namespace: 'shop', name, uid: `uid-${name}`, generation: 1, created: 0, annotations: {}, spec };
}

export function came(object: PolicyObject): ObjectChange {
  return { kind: object.kind, key: `${object.namespace}/${object.name}`, object };
}

export function went({ kind, namespace, name }: PolicyObject): ObjectChange {
  return { kind, key: `${namespace}/${name}`, object: undefined };
}

/** What is served once all changes were applied, by name. */
export class Served {
  readonly policies = new Policies(MESH);
  readonly resources = new Map<string, Authorization>();

  apply(...changes: ObjectChange[]): ReturnType<Policies['apply']> {
    const change = this.policies.apply(changes);
    for (const each of change.set) this.resources.set(`${each.namespace}/${each.name}`, each);
    for (const name of change.removed) if (!this.resources.delete(name)) throw new Error(`${name} was not served`);
    return change;
  }

  /** As JSON, by name. */
  json(): Record<string, unknown> {
    return Object.fromEntries([...this.resources].sort(([a], [b]) => (a < b ? -1 : 1)).map(([name, each]) => [name, json(each)]));
  }
}

export function json(authorization: Authorization): unknown {
  return toJson(AuthorizationSchema, authorization);
}
