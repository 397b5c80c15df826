/** What iptables and nftables do differently, behind one seam: reading and writing our rules of one netns. */
import type { DatapathState } from '../driver.ts';
import type { Family, Shape, Stage } from './rules.ts';

/** Our rules of a netns as the kernel has them. */
export interface Found {
  stage: DatapathState;
  /** what differs from how the shape's rules at that stage would be, one sentence each, rules named by their id and text */
  differences(shape: Shape, stage: Stage): string[];
  /** packets by rule id; in `nat` these are connections. Both families together. */
  counts(shape: Shape): Map<string, number>;
}

/** A netns to write into. */
export interface Site {
  netnsFd: number;
  families: readonly Family[];
  /** what the record keeps for the backend over a restart of the agent; the backend changes it, the driver writes it down */
  notes: Notes;
}

export interface Notes {
  /** iptables' tables that were there before ours, "4 nat": they stay when ours go */
  tables?: string[] | undefined;
  /** nftables' rules as the kernel gave them back when they were written, by "table chain id" */
  written?: Record<string, string> | undefined;
}

export interface Backend {
  readonly kind: 'iptables' | 'nftables';
  /** "iptables-nft 1.8.9" */
  readonly version: string;
  read(site: Site): Promise<Found>;
  readSync(site: Site): Found;
  /**
   * Brings the rules to the stage. `found` undefined: they are at the stage before it, as we left them; a refusal is then tried
   * again from what is really there. With anything of ours in disorder, new connections are dropped until all rules stand.
   */
  write(site: Site, shape: Shape, stage: Stage, from: DatapathState | Found): Promise<void>;
  /** Everything of ours off, tables included that only we used. */
  clear(site: Site): Promise<void>;
  /** The node's rule and sets; `members` are all of them now. */
  writeNode(netnsFd: number, members: readonly Member[]): Promise<void>;
  clearNode(netnsFd: number): Promise<void>;
  /** Takes some members in or out of sets that are there. */
  changeMembers(netnsFd: number, add: boolean, members: readonly Member[]): Promise<void>;
}

/** An address that the node's processes reach as a probe. */
export interface Member {
  address: string;
  uid: string;
}
