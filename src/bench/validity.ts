/**
 * Whether a run took the path that its scenario is about. The counters of three parties must agree with what the client did: of the
 * redirect, of the tunnel and of the server. A run that fails this is void: its numbers are of something else.
 */
import type { LoadResult } from '../sys/native.ts';

/** Of this run only: differences of counters. */
export interface Evidence {
  /** connections of the client that the redirect sent to the tunnel */
  redirected: number;
  /** connections of the client that the tunnel says it had */
  tunnel: number;
  /** connections that reached the application: the server, or the client's own echo where that is dialled */
  server: number;
  /** bytes that whoever answered received */
  received: number;
}

/** Where the client's connections must have gone. */
export interface Path {
  /** through redirect and tunnel */
  redirected: boolean;
  /** to the application; a stand-in answers by itself */
  server: boolean;
}

/** Errors per operation, above which a run is void. */
export const MOST_ERRORS = 0.001;
/** A repeated SYN may be counted twice; more than this has another reason. */
const SURPLUS = 0.01;
const FEW = 16;

/** @returns undefined when all is well, otherwise what speaks against the run */
export function faultOf(mode: 'connections' | 'round-trips' | 'bulk', load: LoadResult, seen: Evidence, path: Path): string | undefined {
  const { connections, operations, allOperations, allBytes } = load;
  const errors = Object.entries(load.errors);
  const failed = errors.reduce((sum, [, count]) => sum + count, 0);
  const most = connections * (1 + SURPLUS) + FEW + failed;
  if (failed > (allOperations + failed) * MOST_ERRORS)
    return `${failed} of ${allOperations + failed} operations failed (${errors.map(([name, count]) => `${name} ${count}`).join(', ')})`;
  if (operations === 0) return 'no operation was completed in the measured time';
  const parties: [boolean, number, string, string][] = [
    [path.redirected, seen.redirected, 'the redirect', 'redirected'],
    [path.redirected, seen.tunnel, 'the tunnel', 'taken'],
    [path.server, seen.server, 'the server', 'accepted'],
  ];
  for (const [expected, count, who, verb] of parties) {
    if (!expected && count > 0)
      return `${who} says that ${count} of ${connections} connections were ${verb}, which must not be in this scenario`;
    if (expected && count < connections) return `${who} says that only ${count} of ${connections} connections were ${verb}`;
    if (expected && count > most) return `${who} says that ${count} connections were ${verb}, where the client made ${connections}`;
  }
  // What was under way when the client closed may be cut.
  if (mode === 'bulk' && seen.received < allBytes * 0.95) return `only ${seen.received} of ${allBytes} bytes arrived`;
  return undefined;
}
