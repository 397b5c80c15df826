/** What the client of a load has seen since it began. */

export interface Count {
  /** that were answered with 200 */
  ok: number;
  failed: number;
  /** that were opened */
  connections: number;
}

export interface Failure {
  /** RFC 3339 */
  at: string;
  kind: Kind;
  /** the system's error, or the status */
  message: string;
}

/**
 * fresh: a connection for every request. renewed: one connection is kept for some seconds, as clients with a limit do. held: one for
 * ever.
 */
export const KINDS = ['fresh', 'renewed', 'held'] as const;
export type Kind = (typeof KINDS)[number];

export type Totals = Record<Kind, Count> & {
  /** the last hundred */
  failures: Failure[];
};

export function noTotals(): Totals {
  const none = (): Count => ({ ok: 0, failed: 0, connections: 0 });
  return { fresh: none(), renewed: none(), held: none(), failures: [] };
}
