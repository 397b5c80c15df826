/**
 * The policies of a cluster as tunnels are told about them: what to serve, which policies a workload refers to, and what becomes of
 * each. The answer depends on the objects alone, not on the order in which they came.
 */
import { equals, toBinary } from '@bufbuild/protobuf';
import type { Logger } from '../../base/log.ts';
import { AuthorizationSchema, type Authorization } from '../../proto/security_pb.js';
import { qualifiedName } from '../../state/workload.ts';
import type { PolicyIndex } from '../catalog/policies.ts';
import type { ObjectChange, PolicyObject } from '../cluster.ts';
import type { ResourceContent } from '../resources.ts';
import { translateAuthorizationPolicy, type Mesh, type Translated } from './authorization-policy.ts';
import { readPeerAuthentication, type PeerAuthentication } from './peer-authentication.ts';
import { PeerAuthentications } from './peer-authentications.ts';
import { refOf, type PolicyRef, type PolicyReport, type Verdict } from './report.ts';
import { sameSelector, Selectors } from './selector.ts';

export interface PolicyChange {
  /** new, or other than before */
  set: Authorization[];
  /** "namespace/name" */
  removed: string[];
  /** namespaces whose workloads may now refer to other policies */
  affected: ReadonlySet<string> | 'all';
  /** of every policy that came, changed or went */
  reports: PolicyReport[];
}

export class Policies implements PolicyIndex {
  readonly #mesh: Mesh;
  readonly #log: Logger;
  /** by key of the AuthorizationPolicy, which is the name of the resource */
  readonly #translated = new Map<string, Translated>();
  readonly #selectors = new Selectors();
  readonly #peers: PeerAuthentications;
  /** what is served, by resource name */
  readonly #served = new Map<string, Authorization>();
  /** "kind namespace/name" → what was last said of it */
  readonly #said = new Map<string, { policy: PolicyRef; verdict: Verdict }>();

  constructor({ log, ...mesh }: Mesh & { log: Logger }) {
    this.#mesh = mesh;
    this.#log = log;
    this.#peers = new PeerAuthentications(mesh.rootNamespace);
  }

  /** Changes of other kinds are passed over. */
  apply(changes: readonly ObjectChange[]): PolicyChange {
    const reports = new Map<string, PolicyReport>();
    const names = new Set<string>();
    const affected = new Set<string>();
    const peers = new Map<string, PeerAuthentication | undefined>();
    for (const { kind, key, object } of changes) {
      if (kind === 'AuthorizationPolicy') {
        const policy = object?.kind === kind ? object : undefined;
        this.#authorization(key, policy, { reports, affected });
        names.add(key);
      } else if (kind === 'PeerAuthentication') {
        const policy = object?.kind === kind ? object : undefined;
        const read = policy && readPeerAuthentication(policy, this.#mesh.rootNamespace);
        peers.set(key, read?.peer);
        this.#report(`${kind} ${key}`, reports, policy && read && { policy, verdict: read.verdict });
      }
    }
    const peer = this.#peers.apply(peers);
    for (const namespace of peer.affected === 'all' ? [this.#mesh.rootNamespace] : peer.affected) affected.add(namespace);
    return {
      ...this.#serve(new Set([...names, ...peer.names])),
      // What holds in the root namespace holds everywhere.
      affected: affected.has(this.#mesh.rootNamespace) ? 'all' : affected,
      reports: [...reports.values()],
    };
  }

  selecting(namespace: string, labels: Readonly<Record<string, string>>): string[] {
    const names = new Set(this.#selectors.matching(namespace, labels));
    for (const name of this.#selectors.matching(this.#mesh.rootNamespace, labels)) names.add(name);
    for (const name of this.#peers.selecting(namespace, labels)) names.add(name);
    return [...names].sort();
  }

  #authorization(
    key: string,
    policy: PolicyObject | undefined,
    { reports, affected }: { reports: Map<string, PolicyReport>; affected: Set<string> },
  ): void {
    const before = this.#translated.get(key);
    const after = policy && translateAuthorizationPolicy(policy, this.#mesh);
    if (after === undefined) this.#translated.delete(key);
    else this.#translated.set(key, after);
    this.#report(`AuthorizationPolicy ${key}`, reports, policy && after && { policy, verdict: after.verdict });
    if (sameSelector(before?.selector, after?.selector)) return;
    const namespace = key.slice(0, key.indexOf('/'));
    this.#selectors.set(namespace, key, after?.selector);
    affected.add(namespace);
  }

  /** Says of a policy what was not said before: in the log when the words differ, in a report also when only the policy does. */
  #report(name: string, reports: Map<string, PolicyReport>, now: { policy: PolicyObject; verdict: Verdict } | undefined): void {
    const before = this.#said.get(name);
    if (now === undefined) {
      this.#said.delete(name);
      if (before !== undefined) reports.set(name, { policy: before.policy, verdict: undefined });
      return;
    }
    const said = { policy: refOf(now.policy), verdict: now.verdict };
    const told = before?.verdict.message === said.verdict.message;
    if (told && before.policy.uid === said.policy.uid && before.policy.generation === said.policy.generation) return;
    this.#said.set(name, said);
    reports.set(name, said);
    const { ok, reason, faults, message } = said.verdict;
    if (told || (ok && before === undefined)) return;
    if (ok) this.#log.info({ policy: name }, 'policy is sent in full now');
    else this.#log.warn({ policy: name, code: 'POLICY_INVALID', reason, faults }, `policy is not sent as written: ${message}`);
  }

  #serve(names: ReadonlySet<string>): { set: Authorization[]; removed: string[] } {
    const set: Authorization[] = [];
    const removed: string[] = [];
    for (const name of names) {
      const now = this.#translated.get(name)?.authorization ?? this.#peers.authorization(name);
      const before = this.#served.get(name);
      if (now === undefined) {
        if (this.#served.delete(name)) removed.push(name);
      } else if (before === undefined || !equals(AuthorizationSchema, before, now)) {
        this.#served.set(name, now);
        set.push(now);
      }
    }
    return { set, removed };
  }
}

export function authorizationResource(authorization: Authorization): ResourceContent {
  return { name: qualifiedName(authorization), message: toBinary(AuthorizationSchema, authorization) };
}
