/** When a certificate is asked for again: at half of its life when all goes well, more and more rarely when it does not. */

const RETRY_FIRST_MS = 1_000;
const RETRY_MAX_MS = 150_000;
/** So many tries fit into a life at least, and half of them between the first renewal and the end. */
const TRIES_PER_LIFE = 20;
const SHORTEST_MS = 100;

/**
 * Half of what is left of it now, a tenth more or less, so that a node's identities do not all renew in one moment. Counted from
 * now and not from its beginning: issuers date certificates back, for peers whose clocks are behind.
 * @param lifeMs from now to its end
 */
export function renewalDelay(lifeMs: number): number {
  return Math.max(lifeMs * (0.45 + 0.1 * Math.random()), SHORTEST_MS);
}

/**
 * Doubling from a second to 150 s as ztunnel's, but never so long that a short life ends between two tries.
 * @param failures so far, at least 1
 * @param lifeMs of a certificate as they are issued
 * @param remainingMs of the one in use; 0 without one
 */
export function retryDelay(failures: number, lifeMs: number, remainingMs: number): number {
  const longest = Math.min(RETRY_MAX_MS, lifeMs / TRIES_PER_LIFE, remainingMs > 0 ? remainingMs / 2 : Infinity);
  const delay = Math.min(RETRY_FIRST_MS * 2 ** Math.min(failures - 1, 20), longest);
  return Math.max(delay * (0.8 + 0.4 * Math.random()), SHORTEST_MS);
}
