/** The resources that control serves, encoded once, each with a version that is the same on every replica. */

export type ResourceKind = 'address' | 'authorization';

export interface Resource {
  /** as xDS names it */
  name: string;
  /** a digest of the content, so that a client may resume with any replica, also one started since */
  version: string;
  /** an encoded `Resource` message of delta xDS (version, Any, name, aliases) */
  bytes: Uint8Array;
  /** what else it answers to on demand: "network/address" */
  aliases: readonly string[];
}

export interface ResourceChange {
  kind: ResourceKind;
  changed: readonly string[];
  removed: readonly string[];
}
