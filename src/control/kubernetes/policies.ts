/**
 * Policies of one kind, whose CustomResourceDefinition may come, change and go while control runs. The definition is watched by its
 * name: that costs nothing while it is absent, and tells at once when and in which version the policies can be read.
 */
import type { Logger } from '../../base/log.ts';
import type { KubeApi, KubeObject } from '../../kubernetes/api.ts';
import { isRecord } from '../../kubernetes/json.ts';
import { Reflector, type Change, type ReflectorEvents } from '../../kubernetes/reflector.ts';
import type { PolicyObject } from '../cluster.ts';
import { policyRecord } from './policy.ts';

const GROUP = 'security.istio.io';
/** The first that is served is read; they differ in nothing that is used. */
const VERSIONS = ['v1', 'v1beta1'] as const;
const RESOURCES = { AuthorizationPolicy: 'authorizationpolicies', PeerAuthentication: 'peerauthentications' } as const;

export class PolicyReflector {
  readonly #api: KubeApi;
  readonly #log: Logger;
  readonly #kind: PolicyObject['kind'];
  readonly #events: ReflectorEvents<PolicyObject>;
  readonly #definition: Reflector<string>;
  #version: string | undefined;
  #policies: Reflector<PolicyObject> | undefined;
  #synced = false;

  constructor(kind: PolicyObject['kind'], { api, log }: { api: KubeApi; log: Logger }, events: ReflectorEvents<PolicyObject>) {
    this.#api = api;
    this.#log = log;
    this.#kind = kind;
    this.#events = events;
    this.#definition = new Reflector<string>(
      {
        api,
        path: '/apis/apiextensions.k8s.io/v1/customresourcedefinitions',
        query: { fieldSelector: `metadata.name=${RESOURCES[kind]}.${GROUP}` },
        convert: servedVersion,
        log,
      },
      {
        onChanges: (changes) => this.#serve(changes.at(-1)?.value),
        onSynced: () => {
          if (this.#version === undefined) this.#sync(); // no such policies here
        },
        onError: (error) => events.onError(error),
      },
    );
  }

  start(): void {
    this.#definition.start();
  }

  close(): void {
    this.#definition.close();
    this.#policies?.close();
  }

  /** @param version undefined: not installed (any more) */
  #serve(version: string | undefined): void {
    if (version === this.#version) return;
    this.#version = version;
    const before = this.#policies?.keys() ?? [];
    this.#policies?.close();
    this.#policies = undefined;
    this.#log.info({ kind: this.#kind, version }, version === undefined ? 'policies are not installed any more' : 'policies are installed');
    if (version === undefined) {
      this.#gone(before);
      this.#sync();
      return;
    }
    const policies = new Reflector<PolicyObject>(
      {
        api: this.#api,
        path: `/apis/${GROUP}/${version}/${RESOURCES[this.#kind]}`,
        convert: (object) => policyRecord(this.#kind, object),
        log: this.#log,
      },
      {
        onChanges: (changes) => this.#events.onChanges(changes),
        onSynced: () => {
          // What the former version had stays in force until the new one has told what there is.
          const now = new Set(policies.keys());
          this.#gone(before.filter((key) => !now.has(key)));
          this.#sync();
        },
        onError: (error) => this.#events.onError(error),
      },
    );
    this.#policies = policies;
    policies.start();
  }

  #gone(keys: readonly string[]): void {
    const changes: Change<PolicyObject>[] = keys.map((key) => ({ key, value: undefined }));
    if (changes.length > 0) this.#events.onChanges(changes);
  }

  #sync(): void {
    if (this.#synced) return;
    this.#synced = true;
    this.#events.onSynced();
  }
}

/** Of a definition that is established; undefined: nothing to be read yet. */
export function servedVersion(definition: KubeObject): string | undefined {
  const { spec, status } = definition;
  const conditions = isRecord(status) && Array.isArray(status['conditions']) ? (status['conditions'] as unknown[]) : [];
  const established = conditions.some(
    (condition) => isRecord(condition) && condition['type'] === 'Established' && condition['status'] === 'True',
  );
  if (!established) return undefined;
  const versions = isRecord(spec) && Array.isArray(spec['versions']) ? (spec['versions'] as unknown[]) : [];
  return VERSIONS.find((name) => versions.some((version) => isRecord(version) && version['name'] === name && version['served'] === true));
}
