/** The resources that control serves, encoded once, each with a version that is the same on every replica. */
import { ADDRESS_TYPE, AUTHORIZATION_TYPE } from '../rpc/services.ts';

export type ResourceKind = 'address' | 'authorization';

export const TYPE_URLS: Readonly<Record<ResourceKind, string>> = { address: ADDRESS_TYPE, authorization: AUTHORIZATION_TYPE };

/** A resource as its maker knows it. */
export interface ResourceContent {
  /** as xDS names it: a workload's uid, a service's "namespace/hostname", a policy's "namespace/name" */
  name: string;
  /** the encoded message: Address or Authorization */
  message: Uint8Array;
  /** what else it answers to on demand: "network/address" */
  aliases?: readonly string[];
  /** of a workload: the node that it runs on */
  node?: string;
  /** of a workload: names of the services that it is an endpoint of */
  services?: readonly string[];
}

export interface Resource extends Required<Omit<ResourceContent, 'message'>> {
  /** a digest of the content, so that a client may resume with any replica, also one started since */
  version: string;
  /** an encoded `Resource` message of delta xDS (version, Any, name, aliases) */
  bytes: Uint8Array;
}

export interface ResourceChange {
  kind: ResourceKind;
  /** new, or of new content */
  changed: readonly string[];
  /** those of `changed` that did not exist before */
  added: ReadonlySet<string>;
  removed: readonly string[];
}
